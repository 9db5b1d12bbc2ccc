"""Numbers that no machine can hold are refused in a line, wherever a number is asked for."""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any, get_args, get_origin

import pytest
from helpers import refusal
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from easy2hard.errors import UserError
from easy2hard.plugins import FILTERS
from easy2hard.settings.docs import sections
from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.schema import Settings
from easy2hard.sweep.plan import Sweep
from easy2hard.tasks.base import GREATEST_DIFFICULTY, hardest
from easy2hard.tasks.registry import load_task


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield a section and those inside it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
    for each in get_args(annotation):
        yield from models(each)


SECTIONS = list(dict.fromkeys([*models(Settings), *models(Sweep), *FILTERS.built_in.values()]))


def bounded(annotation: Any, metadata: list[Any]) -> bool:
    """Whether whole numbers in it have a lowest and a greatest value; of other numbers the section takes care."""
    if isinstance(annotation, type) and not get_args(annotation):
        names = [{name for name in ("ge", "gt", "le", "lt") if hasattr(each, name)} for each in metadata]
        given_ = set().union(*names)
        return annotation is not int or (bool(given_ & {"ge", "gt"}) and bool(given_ & {"le", "lt"}))
    if hasattr(annotation, "__metadata__"):
        within = [each.metadata if isinstance(each, FieldInfo) else [each] for each in annotation.__metadata__]
        return bounded(get_args(annotation)[0], list(chain.from_iterable(within)))
    inner = metadata if get_origin(annotation) not in (list, dict) else []
    parts = [each for each in get_args(annotation) if each is not type(None) and not isinstance(each, str)]
    return all(bounded(each, inner) for each in parts)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_number_has_a_range(section: type[BaseModel]) -> None:
    assert section.model_config.get("allow_inf_nan") is False
    fields = section.model_fields.items()
    assert [name for name, field in fields if not bounded(field.annotation, field.metadata)] == []


huge = st.one_of(
    st.sampled_from(["inf", "-inf", "nan", "1e400", "9" * 5000, "0x" + "f" * 5000, "-" + "9" * 400]),
    st.integers(min_value=10**13).map(str),
    st.integers(max_value=-(10**10)).map(str),
)
EVERY = [each for section in sections() for each in section.settings]
NUMBERS = [each.path for each in EVERY if "int" in each.kind or "float" in each.kind]


@given(st.sampled_from(NUMBERS), huge)
def test_what_no_machine_can_hold_is_refused_by_name(path: str, value: str) -> None:
    for text in (value, f"[{value}, 0.9]", f"{{ nodes = {value} }}"):
        said = refusal(partial(load_recipe, "smoke", [f"{path}={text}"]))
        if said is None:  # a number that is one: a seed has all that TOML can write, and a rate what float32 holds
            assert abs(float(value)) <= 3e38
        else:
            assert len(said.splitlines()) == 1
            assert path.partition(".")[0] in said


@given(st.one_of(st.integers(0, 2 * GREATEST_DIFFICULTY), st.integers(0, 10**400)), st.integers(1, 6000))
def test_a_difficulty_is_one_that_can_be_held(number: int, digits: int) -> None:
    task = load_task("multiplication")
    for text in (str(number), f"{number}x3", f"3x{number}", f"1-{min(number, 100)},{number}", "9" * digits):
        said = refusal(partial(task.parse_difficulties, text))
        if said is None:
            assert max(map(hardest, task.parse_difficulties(text))) <= GREATEST_DIFFICULTY
        else:
            assert len(said.splitlines()) == 1


@pytest.mark.parametrize("betas", ["[1.5, 0.98]", "[nan, 0.9]", "[0.9, 1.0]", "[-0.1, 0.9]"])
def test_betas_are_shares(betas: str) -> None:
    with pytest.raises(UserError, match=r"optimiser\.betas\.[01] = "):
        load_recipe("smoke", [f"optimiser.betas={betas}"])
