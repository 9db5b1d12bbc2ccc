"""``--scale laptop``: any recipe at a size that two cores run in minutes, or in an hour.

The one place of the rules (docs/scale.md). What a recipe is about stays: task, schedule, kinds of filters, noise, the
order of a round. What makes it large shrinks, never grows, and settings given by hand come afterwards. The figures are
those of the ``*-cpu`` recipes, which is what is known to learn something at this size (LOG.md).
"""

from collections.abc import Callable
from typing import Any

EASY: dict[str, tuple[int, dict[str, int], int]] = {
    "copy": (10, {}, 7),
    "reverse": (10, {}, 7),
    "reverse-addition": (10, {}, 7),
    "forward-addition": (8, {}, 6),
    "forward-addition-padded": (8, {}, 6),
    "multiplication": (2, {}, 6),
    "maze-hops": (2, {"nodes": 6}, 2),
    "maze-nodes": (5, {"hops": 2, "smallest": 3}, 4),
}
"""Task -> hardest supervised difficulty, options and rounds that a tiny model can do with; others keep their own."""

SMALL_BASE = "HuggingFaceTB/SmolLM2-135M"
"""Stands for whatever pretrained model a recipe names."""


def laptop(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings at the size of a laptop; those of a ``tiny`` model are that already, and stay.

    Args:
        values: all settings of a valid recipe, by section.
    """
    model, rounds = dict(values["model"]), dict(values["rounds"])
    if model["preset"] == "tiny" and "pretrained" not in model:
        return values
    difficulty, options, count = EASY.get(values["task"]["name"], (None, {}, 7))
    supervised, training, optimiser = dict(values["supervised"]), dict(values["training"]), dict(values["optimiser"])

    kept = ("positions", "position_capacity", "randomized_table", "loops", "loops_per")
    model = {"preset": "tiny", "members": min(2, model["members"]), **{key: model[key] for key in kept if key in model}}
    if "pretrained" in values["model"]:
        model["pretrained"] = SMALL_BASE
        if "lora" in values["model"]:
            model["lora"] = {**values["model"]["lora"], "rank": min(8, values["model"]["lora"]["rank"]), "alpha": 16.0}
    else:
        # A tiny model wants higher rates than the paper's, and Muon.
        optimiser |= {"name": "muon", "learning_rate": 3e-3, "muon_learning_rate": 0.02}
    training |= {"batch": min(256, training["batch"]), "precision": "float32"}
    training["groups"] = min(training["groups"], training["batch"])

    supervised["difficulty"] = min(supervised["difficulty"], difficulty or supervised["difficulty"])
    # So few steps learn a range only with a curriculum, and reach beyond it only after a long decay.
    supervised |= _phase(_less(supervised["steps"], 5, 100, 2500), decay=1 / 2) | {"curriculum": 0.5, "stages": []}
    # At higher rates a round shakes up what the decay has settled.
    rounds |= _phase(_less(rounds["steps"], 5, 50, 200), decay=3 / 4) | {"learning_rate_scale": 0.05}
    rounds["count"] = min(count, rounds["count"])
    rounds.pop("batch", None)
    labels = values["labels"] | {"count": _less(values["labels"]["count"], 20, 500, 2500)}
    if "top_up" in labels:
        labels["top_up"] = min(labels["top_up"], labels["count"])

    scaled = {
        **values,
        "task": {**values["task"], "options": {**values["task"]["options"], **options}},
        "model": model,
        "optimiser": optimiser,
        "training": training,
        "supervised": supervised,
        "rounds": rounds,
        "labels": labels,
        "schedule": values["schedule"] | {"stride": 1},
        "evaluation": {
            "examples": min(200, values["evaluation"]["examples"]),
            "beyond": min(3, values["evaluation"]["beyond"]),
        },
    }
    if "noise" in values:
        scaled["noise"] = {**values["noise"], "round": min(values["noise"]["round"], max(1, rounds["count"] // 2))}
    return scaled


SCALES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"laptop": laptop}
"""Sizes a recipe can be brought to."""


def _less(number: int, divisor: int, least: int, most: int) -> int:
    """Return a share of a number within bounds, but never more than the number."""
    return min(number, max(least, min(most, number // divisor)))


def _phase(steps: int, decay: float) -> dict[str, int]:
    return {"steps": steps, "warmup": steps // 20, "decay": int(steps * decay), "rest": 0}
