"""A position scheme of your own; see docs/extending.md.

easy2hard run copy-cpu --plugin examples/clock.py --set model.positions=clock --set model.position_options.hours=10
"""

import torch

from easy2hard import Positions


class Clock(Positions):
    """Each embedding is told the hour: its place modulo ``hours``, by a learned vector."""

    name = "clock"

    def __init__(self, model, task, hours: int = 12):
        super().__init__()
        self.hours = hours
        self.vectors = torch.nn.Parameter(torch.empty(hours, model.size.width))

    def initialise(self, generator):
        with torch.no_grad():
            self.vectors.normal_(0.0, 1.0, generator=generator)

    def embed(self, x, ids):
        return x + self.vectors[ids % self.hours]
