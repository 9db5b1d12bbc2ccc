"""A schedule of your own; see docs/extending.md.

easy2hard run copy-cpu --plugin examples/breathing.py --set schedule.name=breathing --set schedule.options.rest=3
"""

from itertools import islice

from easy2hard import Schedule


class Breathing(Schedule):
    """The next ``stride`` small steps, but every ``rest``-th round the difficulties of the round before once more."""

    name = "breathing"

    def __init__(self, settings, task, rest: int = 3):
        super().__init__(settings, task)
        self.rest = rest

    def next(self, history, ready):
        if len(history) > 1 and len(history) % self.rest == 0:
            return list(history[-1])
        return [difficulty for step in islice(self.ahead(history), self.settings.stride) for difficulty in step]
