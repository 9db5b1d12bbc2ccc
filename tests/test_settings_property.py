"""Any settings at all are accepted and can be built, or refused in one line: 1,000 of them, or `SETTINGS`."""

import os
from typing import Any

from helpers import TASKS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easy2hard.errors import UserError
from easy2hard.models.transformer import build_transformer
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.preflight import check
from easy2hard.seeding import torch_generator
from easy2hard.settings.recipes import parse_settings, recipe_names
from easy2hard.settings.schema import Settings
from easy2hard.tasks.registry import load_task

EXAMPLES = int(os.environ.get("SETTINGS", "1000"))

odd = st.one_of(
    st.none(), st.booleans(), st.text(max_size=5), st.floats(), st.integers(-3, 3), st.just([]), st.just({})
)
small = st.integers(-1, 12)
share = st.one_of(st.floats(-0.5, 1.5), st.sampled_from([0.0, 0.5, 1.0]))


def some(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the settings of a section, now and then with something odd or unknown in it."""
    usual = st.fixed_dictionaries({}, optional=values)
    strange = st.fixed_dictionaries({}, optional={**dict.fromkeys(values, odd), "nonsense": odd})
    return st.one_of(usual, usual, usual, usual, strange)


def with_required(required: dict[str, st.SearchStrategy[Any]], section: st.SearchStrategy[dict[str, Any]]) -> Any:
    return st.builds(lambda must, more: {**must, **more}, st.fixed_dictionaries(required), section)


filters = st.lists(
    st.one_of(
        st.builds(
            lambda name, more: {"name": name, **more},
            st.sampled_from(["none", "twin", "parts", "verifier", "learned-verifier"]),
            some(),
        ),
        st.builds(lambda more: {"name": "vote", **more}, some(threshold=share)),
        st.builds(lambda more: {"name": "length", **more}, some(threshold=small)),
        st.builds(lambda more: {"name": "confidence", **more}, some(keep=share, threshold=share)),
        odd,
    ),
    max_size=3,
)
phase = {"steps": st.integers(0, 20), "warmup": small, "decay": small, "rest": small}
schedules = st.sampled_from(["standard", "accelerated", "grid", "grid-accelerated", "other"])
readiness = st.sampled_from(["vote", "confidence", "twin", "parts", "oracle"])
anything = st.fixed_dictionaries(
    {
        "task": with_required(
            {"name": st.sampled_from([*TASKS, "juggling"])},
            some(options=st.dictionaries(st.sampled_from(["nodes", "hops", "smallest", "x"]), small, max_size=2)),
        ),
        "supervised": with_required(
            {"difficulty": small, "steps": st.integers(1, 20)},
            some(**phase, curriculum=share, stages=st.lists(share, max_size=2).map(sorted)),
        ),
        "rounds": with_required(
            {"count": st.integers(0, 5), "steps": st.integers(1, 20)},
            some(
                **phase,
                batch=small,
                newest_share=share,
                learning_rate_scale=share,
                data=st.sampled_from(["accumulate", "replace"]),
                start=st.sampled_from(["continue", "scratch"]),
            ),
        ),
        "labels": with_required(
            {"count": st.integers(1, 50)},
            some(
                top_up=small,
                least_acceptance=share,
                filters=filters,
                relabel=st.booleans(),
                averaging=small,
                counter_examples=st.booleans(),
                temperature=share,
                samples=small,
            ),
        ),
    },
    optional={
        "seed": small,
        "schedule": some(name=schedules, stride=small, readiness=readiness, ready=share, most=small),
        "description": st.text(max_size=5),
        "model": some(
            preset=st.sampled_from(["tiny", "small", "huge"]),
            width=small,
            layers=small,
            heads=small,
            members=small,
            positions=st.sampled_from(["none", "rope", "alibi", "fire", "randomized", "abacus", "coupled", "learned"]),
            position_capacity=st.integers(-1, 200),
            randomized_table=st.sampled_from(["sinusoidal", "learned"]),
            loops=small,
            loops_per=small,
        ),
        "training": some(
            batch=small, stock=small, groups=small, precision=st.sampled_from(["float32", "bfloat16", "int8"])
        ),
        "optimiser": some(name=st.sampled_from(["muon", "adamw", "sgd"]), learning_rate=share, floor=share, clip=share),
        "watch": some(enabled=st.booleans(), agreement=share, holds=small, rollbacks=small, stricter=share),
        "noise": some(round=small, kind=st.sampled_from(["random", "drop", "loud"]), share=share, digits=small),
        "evaluation": some(examples=small, beyond=small),
        "storage": some(checkpoint_minutes=share, keep_weights=small),
        "nonsense": odd,
    },
)


def accepted(values: dict[str, Any]) -> Settings | None:
    """Return settings that a run would begin with; None where they are refused in one line."""
    try:
        found = parse_settings(values)
        check(Experiment(found))
    except UserError as error:
        message = str(error)
    else:
        return found
    assert len(message.splitlines()) == 1, message
    return None


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=anything)
def test_settings_are_accepted_and_built_or_refused_in_a_line(values: dict[str, Any]) -> None:
    found = accepted(values)
    if found is None:
        return
    task = load_task(found.task.name, found.task.options)
    for member in range(min(found.model.members, 2)):
        build_transformer(found.model, task, torch_generator(found.seed, "weights", member))
    assert parse_settings(found.model_dump(exclude_none=True)) == found


def test_enough_settings_are_accepted_for_this_to_mean_something() -> None:
    seen: list[bool] = []

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(values=anything)
    def count(values: dict[str, Any]) -> None:
        seen.append(accepted(values) is not None)

    count()
    assert 10 < sum(seen) < len(seen) - 10
    assert recipe_names()
