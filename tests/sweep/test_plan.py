"""Sweep files: what they ask for, what is refused, and those that are shipped."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from easy2hard.errors import UserError
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.preflight import check
from easy2hard.settings.recipes import recipe_names, replaced
from easy2hard.sweep.plan import load_sweep, planned, sweep_names


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", sweep_names())
def test_all_runs_of_a_shipped_sweep_can_run(name: str) -> None:
    sweep = load_sweep(name)
    assert sweep.description.endswith(".")
    runs = planned(sweep)
    assert len({run.name for run in runs}) == len(runs)
    for run in runs:
        if run.seed == sweep.seeds[0]:
            check(Experiment(run.settings))
        assert sweep.examples <= run.settings.evaluation.reserved
        if run.base:
            assert replaced(run.base.settings, run.changes) == run.settings


def test_axes_are_combined_in_order(tmp_path: Path) -> None:
    text = """
    recipe = "smoke"
    set = ["rounds.count=1"]
    seeds = [3, 1]
    budget = { steps = 130 }
    axes.task.copy = []
    axes.task.reverse = { recipe = "reverse-cpu", set = ["supervised.steps=130", "supervised.decay=0"] }
    axes.members.two = ["model.members=2", "labels.count=10"]
    axes.members.four = ["model.members=4"]
    """
    runs = planned(load_sweep(written(tmp_path / "it.toml", text)), ["labels.count=20"])
    assert [run.name for run in runs][:4] == ["copy-two-seed3", "copy-two-seed1", "copy-four-seed3", "copy-four-seed1"]
    assert [run.axes for run in runs][::4] == [
        {"task": "copy", "members": "two"},
        {"task": "reverse", "members": "two"},
    ]
    assert [run.settings.task.name for run in runs] == ["copy"] * 4 + ["reverse"] * 4
    assert [run.settings.model.members for run in runs] == [2, 2, 4, 4] * 2
    for run in runs:
        assert (run.settings.rounds.count, run.settings.labels.count) == (1, 20)
        assert run.settings.budget is not None
        assert (run.settings.budget.steps, run.settings.budget.minutes) == (130, None)


def test_a_sweep_without_variants_is_its_seeds(tmp_path: Path) -> None:
    (run,) = planned(load_sweep(written(tmp_path / "it.toml", 'recipe = "smoke"\nseeds = [5]')))
    assert (run.name, run.settings.seed) == ("all-seed5", 5)


@pytest.mark.parametrize("more", [[], ["seed=5"]])
def test_the_seeds_of_a_sweep_are_no_setting(tmp_path: Path, more: list[str]) -> None:
    text = 'recipe = "smoke"\nseeds = [5]' + ("" if more else '\nset = ["seed = 4"]')
    with pytest.raises(UserError, match=r"seed ?= ?[45]: the seeds of a sweep are its `seeds`"):
        planned(load_sweep(written(tmp_path / "it.toml", text)), more)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seeds = [", "not valid TOML"),
        ("", "seeds: missing"),
        ("seeds = []", "seeds = []: list should have at least 1 item"),
        ("seeds = [1, 1]", "seeds: 1 is given 2 times"),
        ("seeds = [-1]", "seeds.0 = -1: input should be greater than or equal to 0"),
        ("seeds = [0]\nsed = 1", "sed: unknown setting (allowed: against, axes, bar, budget, description,"),
        ("seeds = [0]\nbudget = { minutes = 1.0, steps = 2 }", "budget: takes either minutes or steps"),
        ("seeds = [0]\nbudget = { minuts = 1.0 }", "budget.minuts: unknown setting (allowed: minutes, steps)"),
        ("seeds = [0]\nbudget = { steps = 9 }", "budget.steps = 9 must be at least supervised.steps = 120"),
        ("seeds = [0]\naxes.a.b = []\nvariants.c = []", "axes and variants: a sweep has either"),
        ("seeds = [0]\n[axes.a]", "axes.a: has no variants"),
        ("seeds = [0]\nvariants.none = { st = [] }", "variants.none.st: unknown setting (allowed: recipe, scale, set)"),
        ("seeds = [0]\nvariants.a = 1", "variants.a: expected a list of settings, or a table"),
        ('seeds = [0]\nvariants."../a" = []', "'../a': a name has letters, digits"),
        (
            "seeds = [0]\nvariants.a = ['rounds.cont=1']",
            "variant a: rounds.cont: unknown setting (allowed: batch,",
        ),
        ("seeds = [0]\nvariants.a = { recipe = 'x' }", "variant a: recipe 'x': neither a TOML file nor a shipped"),
        ("seeds = [0]\nvariants.a = []\nvariants.b = []", "variants a and b: have the same settings"),
        (
            "seeds = [0]\naxes.a = {x=[], x-y=['rounds.count=1']}\naxes.b = {y-z=[], z=[]}",
            "would be called x-y-z-seed0",
        ),
        ("seeds = [0]\nvariants.a = []\nvariants.A = ['rounds.count=1']", "two runs would be called A-seed0"),
        ("seeds = [0]\nexamples = 1001", "examples = 1001: at most 1000"),
        ("seeds = [0]\nvariants.a = ['labels.filters=[{name=\"twin\"}]']", "variant a: task copy: has no twin prompts"),
    ],
)
def test_a_bad_sweep_is_refused_in_one_line(
    cli: Callable[..., CompletedProcess[str]], tmp_path: Path, text: str, line: str
) -> None:
    done = cli("sweep", written(tmp_path / "it.toml", f'recipe = "smoke"\n{text}'))
    assert done.returncode == 2
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["it.toml"]


SHARING = """
recipe = "smoke"
seeds = [0, 1]
share = "supervised"
variants.short = ["rounds.count=1", "noise={share=0.1, kind='drop', round=1}"]
variants.replaced = ['rounds.data="replace"', "rounds.supervised_share=0.2", "budget.minutes=5.0"]
variants.verified = ['labels.filters=[{name="verifier"}]', "storage.keep_weights=2", "schedule.stride=2"]
variants.more = ["supervised.steps=130"]
"""


def test_variants_share_what_comes_before_they_differ(tmp_path: Path) -> None:
    runs = planned(load_sweep(written(tmp_path / "it.toml", SHARING)))
    names = [run.base.name if run.base else None for run in runs]
    assert names == ["short-seed0-supervised", "short-seed1-supervised"] * 3 + [None, None]
    for run in runs[:6]:
        assert run.base is not None
        assert replaced(run.base.settings, run.changes) == run.settings
        assert (run.base.settings.rounds.count, run.base.settings.seed) == (0, run.seed)
        assert not (run.base.settings.noise)
        assert not (run.base.settings.budget)


SHARED = [
    ("model.width=16", ["model.width"]),
    ("training.batch=32", ["training.batch"]),
    ("evaluation.examples=60", ["evaluation.examples"]),
    ("optimiser.learning_rate=1e-4", ["optimiser.learning_rate"]),
]


@pytest.mark.parametrize(("override", "named"), SHARED)
def test_nothing_to_share_is_refused_with_the_settings_named(tmp_path: Path, override: str, named: list[str]) -> None:
    text = f"recipe = 'smoke'\nseeds = [0, 1]\nshare = 'supervised'\nvariants.a = []\nvariants.b = ['{override}']"
    with pytest.raises(UserError, match=f"same supervised phase, since they differ in {', '.join(named)}$"):
        planned(load_sweep(written(tmp_path / "it.toml", text)))
    with pytest.raises(UserError, match="there is only one"):
        planned(load_sweep(written(tmp_path / "it.toml", text.partition("variants.b")[0])))


AGAINST = """
recipe = "smoke"
seeds = [0, 1]
axes.data.accumulate = []
axes.data.replace = ['rounds.data="replace"']
axes.filter.vote = []
axes.filter.none = ['labels.filters=[{name="none"}]']
"""


def test_each_variant_is_compared_with_the_one_that_the_oracle_judges(tmp_path: Path) -> None:
    runs = planned(load_sweep(written(tmp_path / "it.toml", AGAINST), "oracle"))
    oracles = {run.variant: run.oracle for run in runs}
    # Two variants that differ in their filters alone have one together.
    assert oracles == {
        "accumulate-vote": "accumulate-vote-oracle",
        "accumulate-none": "accumulate-vote-oracle",
        "replace-vote": "replace-vote-oracle",
        "replace-none": "replace-vote-oracle",
        "accumulate-vote-oracle": None,
        "replace-vote-oracle": None,
    }
    one, other = runs[0], runs[8]
    assert (other.name, other.reference, other.axes) == (
        "accumulate-vote-oracle-seed0",
        True,
        {"data": "accumulate", "filter": "vote-oracle"},
    )
    assert other.settings == replaced(one.settings, ['labels.filters=[{name="verifier"}]'])


@pytest.mark.parametrize("setting", ["rounds.count=0", 'labels.filters=[{name="verifier"}]'])
def test_what_has_no_labels_of_its_own_has_no_gap(tmp_path: Path, setting: str) -> None:
    sweep = load_sweep(written(tmp_path / "it.toml", "recipe = 'smoke'\nseeds = [0]\nagainst = 'oracle'"))
    with pytest.raises(UserError, match="no variant has labels that filters of its own judge"):
        planned(sweep, [setting])


@pytest.mark.parametrize("shipped", [True, False])
def test_a_recipe_is_a_sweep_of_one_variant(tmp_path: Path, shipped: bool) -> None:
    assert not set(recipe_names()) & set(sweep_names())
    text = "[task]\nname='copy'\n[supervised]\nsteps=9\ndifficulty=3\n[labels]\ncount=9\n[rounds]\nsteps=9\ncount=2"
    name = "smoke" if shipped else written(tmp_path / "mine.toml", text)
    variant = Path(name).stem
    assert [run.name for run in planned(load_sweep(name))] == [f"{variant}-seed{seed}" for seed in (0, 1, 2)]
    both = planned(load_sweep(name, "oracle"))
    assert [run.variant for run in both] == [variant] * 3 + [f"{variant}-oracle"] * 3
    assert [run.base.name for run in both if run.base] == [f"{variant}-seed{seed}-supervised" for seed in (0, 1, 2)] * 2


def test_a_sweep_names_its_recipe(cli: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    assert "recipe: missing" in cli("sweep", written(tmp_path / "it.toml", "seeds = [0]")).stderr
    assert f"a shipped sweep (there are {', '.join(sweep_names())})" in cli("sweep", "no-such-sweep").stderr
