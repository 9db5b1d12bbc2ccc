"""Settings: every recipe is valid and can be written down again; what is not allowed is one clear line."""

import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from easy2hard.errors import UserError
from easy2hard.settings.model import PRESETS, ModelSize
from easy2hard.settings.recipes import load_recipe, parse_settings, recipe_names
from easy2hard.settings.schema import Settings
from easy2hard.tasks.registry import task_names

RECIPES = pytest.mark.parametrize("recipe", recipe_names())

LABELS = st.integers(1, 10**8)
RATE = st.floats(0, 1, exclude_min=True, allow_subnormal=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALID: dict[str, st.SearchStrategy[Any]] = {
    "description": TEXT,
    "seed": st.integers(0, 2**63 - 1),
    "task.name": TEXT,
    "model.preset": st.sampled_from(sorted(PRESETS)),
    "model.members": st.integers(2, 1000),
    "model.feed_forward": st.integers(1, 10**6),
    "optimiser.name": st.sampled_from(["adamw", "muon"]),
    "optimiser.learning_rate": RATE,
    "optimiser.betas": st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=2),
    "optimiser.floor": st.floats(0, 1),
    "training.batch": st.integers(2, 10**6),
    "training.precision": st.sampled_from(["float32", "bfloat16"]),
    "supervised.difficulty": st.integers(1, 10**4),
    "supervised.steps": st.integers(65, 10**9),
    "rounds.count": st.integers(0, 1000),
    "labels.count": LABELS,
    "rounds.batch": st.integers(2, 10**6),
    "rounds.newest_share": st.floats(0.1, 0.9),
    "labels.filters": st.just([]) | RATE.map(lambda share: [{"name": "confidence", "keep": share}]),
    "evaluation.beyond": st.integers(0, 1000),
}
"""Settings of the smoke recipe and values that are all allowed beside its other settings."""

SECTIONS = ["model", "optimiser", "training", "supervised", "rounds", "labels", "schedule", "evaluation"]
SIZES = sorted(ModelSize.model_fields)
NO_TEXT = sorted(VALID.keys() - {"description", "task.name"})


def override(key: str, value: Any) -> str:
    return f"{key}={tomli_w.dumps({'value': value}).removeprefix('value = ').strip()}"


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


def refusal(*overrides: str) -> str:
    """Return the one line that says why the smoke recipe with these overrides is refused."""
    with pytest.raises(UserError) as error:
        load_recipe("smoke", overrides)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


@RECIPES
def test_a_shipped_recipe_says_what_it_is_and_names_a_task(recipe: str) -> None:
    settings = load_recipe(recipe)
    assert settings.description
    assert settings.task.name in task_names()


@RECIPES
def test_settings_round_trip_through_toml(recipe: str, tmp_path: Path) -> None:
    settings = load_recipe(recipe)
    written = tmp_path / "settings.toml"
    written.write_text(settings.to_toml())
    assert load_recipe(str(written)) == settings


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_recipe("smoke").training.batch = 1  # type: ignore[misc]


@given(st.data(), st.sampled_from(sorted(VALID)))
def test_an_override_changes_its_setting_and_nothing_else(data: st.DataObject, key: str) -> None:
    value = data.draw(VALID[key])
    settings = load_recipe("smoke", [override(key, value)])
    before, after = (flat(s.model_dump(exclude_none=True)) for s in (load_recipe("smoke"), settings))
    if key == "labels.filters":
        after[key], value = [{k: f[k] for k in ("name", "keep")} for f in after[key]], list(value)
    assert after == before | {key: value}


@given(st.sets(st.sampled_from(sorted(VALID)), max_size=6), st.data())
def test_overridden_settings_round_trip_through_toml(keys: set[str], data: st.DataObject) -> None:
    settings = load_recipe("smoke", [override(key, data.draw(VALID[key])) for key in sorted(keys)])
    assert parse_settings(tomllib.loads(settings.to_toml())) == settings


@given(LABELS, LABELS)
def test_the_last_override_wins(first: int, last: int) -> None:
    settings = load_recipe("smoke", [f"labels.count={first}", f"labels.count={last}"])
    assert settings.labels.count == last


@pytest.mark.parametrize("text", ["two words", '"two words"', " two words "])
def test_a_value_that_is_no_toml_is_a_plain_string(text: str) -> None:
    assert load_recipe("smoke", [f"description={text}"]).description == "two words"


@given(st.sampled_from(NO_TEXT), st.text("abcdefgh", min_size=1))
def test_any_word_is_allowed_only_where_a_setting_is_text(key: str, word: str) -> None:
    message = refusal(f"{key}={word}")
    assert key in message
    assert repr(word) in message


@pytest.mark.parametrize("key", ["supervised.difficulty", "training.batch", "labels.count", "schedule.stride"])
@pytest.mark.parametrize("value", [0, -1])
def test_counts_begin_at_one(key: str, value: int) -> None:
    assert refusal(f"{key}={value}") == f"{key} = {value}: input should be greater than or equal to 1"


@pytest.mark.parametrize("value", ["nan", "0.0", "-0.1"])
def test_a_learning_rate_is_positive(value: str) -> None:
    assert refusal(f"optimiser.learning_rate={value}").startswith(f"optimiser.learning_rate = {value}: ")


@given(st.sampled_from(SECTIONS), st.from_regex(r"\Ax[a-z]*\Z"))
def test_an_unknown_key_is_named_with_the_keys_of_its_section(section: str, key: str) -> None:
    known = sorted(type(getattr(load_recipe("smoke"), section)).model_fields)
    assert refusal(f"{section}.{key}=1") == f"{section}.{key}: unknown setting (allowed: {', '.join(known)})"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["section.nokey=1"], ["section: unknown setting", *Settings.model_fields]),
        (["labels.filters=[{name=vote}]"], ["labels.filters", "takes quotes: [{name='vote'}]"]),
        (["labels.filters=[{name='vote', share=1.0}]"], ["filters", "share", "allowed: name, threshold"]),
        (
            ["labels.filters=[{name='votes'}]"],
            ["labels.filters", "'votes'", "none, parts, twin, verifier, vote"],
        ),
        (["labels.filters=[{name='confidence'}]"], ["labels.filters", "either keep or threshold"]),
        (["labels.filters=[{name='confidence', keep=0.5, threshold=0.5}]"], ["either keep or threshold"]),
        (["model.preset=huge"], ["model.preset = 'huge'", "'tiny', 'small' or 'paper'"]),
        (["model.heads=3"], ["heads = 3 must divide width = 32"]),
        (["budget.steps=1", "budget.minutes=1"], ["budget: takes either minutes or steps"]),
        (["budget={}"], ["budget: takes either minutes or steps"]),
        (["budget.minutes=0"], ["budget.minutes = 0: input should be greater than 0"]),
        (["budget.steps=119"], ["budget.steps = 119 must be at least supervised.steps = 120"]),
        (["model.members=1"], ["vote needs model.members of at least 2"]),
        (["labels.samples=4"], ["labels: samples = 4 needs a temperature above 0"]),
        (
            ["labels.relabel=true", "rounds.data=replace"],
            ["labels.relabel = true: rounds.data = 'replace' leaves"],
        ),
        (["labels.averaging=2", "rounds.start=scratch"], ["labels.averaging = 2 needs rounds.start = 'continue'"]),
        (
            ["labels.averaging=3", "storage.keep_weights=2"],
            ["storage.keep_weights = 2 must be at least 3", "averaging = 3"],
        ),
        (["labels.counter_examples=true"], ["labels: counter_examples = true needs filters = [{name = 'none'}]"]),
        (["rounds.data=both"], ["rounds.data = 'both'", "'accumulate' or 'replace'"]),
        (["training.groups=65"], ["groups = 65 must be at most batch = 64"]),
        (["supervised.warmup=100"], ["supervised: warmup + decay + rest = 160 must be at most steps = 120"]),
        (["rounds.decay=21"], ["rounds: warmup + decay + rest = 21 must be at most steps = 20"]),
        (["rounds=3"], ["rounds = 3"]),
        (["training.batch='64'"], ["training.batch = '64'", "integer"]),
        (["training.batch=64.0"], ["training.batch = 64.0", "integer"]),
        (["training.batch=true"], ["training.batch = True", "integer"]),
        (["training.batch.size=3"], ["--set 'training.batch.size=3'", "batch is a value, not a section"]),
        (["training.batch"], ["--set 'training.batch'", "expected section.key=value"]),
        (["=3"], ["--set '=3'", "expected section.key=value"]),
        (["training..batch=3"], ["--set 'training..batch=3'", "expected section.key=value"]),
    ],
)
def test_a_refusal_names_the_setting_and_what_is_allowed(overrides: list[str], words: list[str]) -> None:
    message = refusal(*overrides)
    assert all(word in message for word in words)


@given(st.text() | st.builds("{}={}".format, st.sampled_from(sorted(VALID)), st.text()))
def test_an_override_gives_settings_or_a_user_error_whatever_it_is(text: str) -> None:
    with suppress(UserError):
        assert isinstance(load_recipe("smoke", [text]), Settings)


@given(st.sets(st.sampled_from(SIZES)), st.sampled_from(sorted(PRESETS)), st.integers(1, 64))
def test_parts_of_a_preset_can_be_replaced(parts: set[str], preset: str, factor: int) -> None:
    wanted = {part: getattr(PRESETS[preset], part) * (factor if part != "heads" else 1) for part in parts}
    settings = parse_settings(
        {
            "task": {"name": "copy"},
            "model": {"preset": preset, **wanted},
            "supervised": {"difficulty": 3, "steps": 1},
            "rounds": {"count": 0, "steps": 1},
            "labels": {"count": 1},
        }
    )
    assert settings.model.size == PRESETS[preset].model_copy(update=wanted)


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(UserError, match=r"^supervised\.steps: missing$"):
        parse_settings(
            {
                "task": {"name": "copy"},
                "supervised": {"difficulty": 3},
                "rounds": {"count": 0, "steps": 1},
                "labels": {"count": 1},
            }
        )


def test_an_unknown_recipe_is_named_with_the_shipped_ones() -> None:
    with pytest.raises(UserError) as error:
        load_recipe("nowhere")
    assert all(word in str(error.value) for word in ["'nowhere'", *recipe_names()])


@pytest.mark.parametrize("content", [b"[task", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_a_user_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"recipe\.toml.*TOML"):
        load_recipe(str(path))


def test_a_pretrained_model_has_one_target() -> None:
    values: dict[str, Any] = {
        "task": {"name": "copy"},
        "model": {"pretrained": "folder"},
        "optimiser": {"name": "adamw"},
        "supervised": {"difficulty": 3, "steps": 1},
        "rounds": {"count": 1, "steps": 1},
        "labels": {"count": 1},
    }
    assert parse_settings(values).training.second_target == 0
    with pytest.raises(UserError, match=r"training.second_target = 0.5: a pretrained model has one target \(0\)"):
        parse_settings({**values, "training": {"second_target": 0.5}})
