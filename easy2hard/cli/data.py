"""Commands about tasks and recipes, before there is a run: tasks, recipes, sample, oracle, check."""

from importlib import resources
from typing import Annotated

import typer

from easy2hard.cli.app import DATA, app
from easy2hard.cli.arguments import PluginOption, ShippedArgument, TaskArgument, TaskOption, load_plugins
from easy2hard.cli.input import read_lines
from easy2hard.cli.output import say, say_rows, tell
from easy2hard.errors import UserError
from easy2hard.settings.base import GREATEST_SEED


@app.command(rich_help_panel=DATA)
def tasks(
    check: Annotated[
        str | None, typer.Option(metavar="NAME", help="check that a task keeps the contract of docs/tasks.md")
    ] = None,
    options: TaskOption = None,
    plugins: PluginOption = None,
) -> None:
    """List the tasks, or check that one keeps its contract.

    Tasks of installed packages are included.

    Example: easy2hard tasks --check sort-digits --plugin examples/sort_digits.py
    """
    from easy2hard.tasks.contract import check_contract
    from easy2hard.tasks.registry import load_oracle, load_task, task_names

    load_plugins(plugins)
    if check is not None:
        task = load_task(check, _parse_options(options))
        check_contract(task, load_oracle(task))
        tell(f"{check}: keeps the contract")
        return
    if options:
        raise UserError(f"--option {options[0]!r}: an option is of the one task that --check names")
    rows = []
    for name in task_names():
        try:
            task = load_task(name)
            rows.append((name, task.summary, task.example))
        except UserError as error:  # a broken package must not hide the other tasks
            rows.append((name, f"cannot be loaded: {error}", "-"))
    say_rows(rows)


@app.command("plugins", rich_help_panel=DATA)
def list_plugins(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="one name; default: all")] = None,
    check: Annotated[bool, typer.Option("--check", help="check the contracts of docs/extending.md")] = False,
    plugins: PluginOption = None,
) -> None:
    """List what can be chosen or added, or check it.

    Tasks, filters, schedules and position schemes; those of installed packages are included.

    Example: easy2hard plugins --check repeats --plugin examples/repeats.py
    """
    from easy2hard.contracts import check_thing
    from easy2hard.runs.origins import KINDS

    load_plugins(plugins)
    found = [(kind, each) for kind in KINDS for each in kind.names() if name in (None, each)]
    if not found:
        raise UserError(f"plugins {name}: nothing is called so (`easy2hard plugins` lists all)")
    broken = False
    for kind, each in found:
        try:
            thing = kind.find(each)
            if check:
                check_thing(thing)
        except UserError as error:
            if name is not None:
                raise
            tell(f"{kind.base.kind:<16} {each:<24} {error}")  # a broken package must not hide the other things
            broken = True
            continue
        origin = kind.origin(each)
        where = origin.source if origin else "built in"
        tell(f"{kind.base.kind:<16} {each:<24} {'keeps the contract' if check else where}")
    if check and broken:
        raise typer.Exit(1)


@app.command(rich_help_panel=DATA)
def recipes(name: ShippedArgument = None) -> None:
    """List the shipped recipes, or print one.

    Example: easy2hard recipes copy-cpu > mine.toml
    """
    from easy2hard.settings.recipes import close_to, load_recipe, recipe_names

    if name is None:
        say_rows((each, load_recipe(each).description) for each in recipe_names())
        return
    if name not in recipe_names():
        raise UserError(f"recipe {name!r}: not shipped ({close_to(name, 'recipes')})")
    say(*(resources.files("easy2hard") / "recipes" / f"{name}.toml").read_text(encoding="utf-8").rstrip().split("\n"))


@app.command(rich_help_panel=DATA)
def sample(
    task: TaskArgument,
    difficulty: Annotated[str, typer.Option(metavar="D", help="difficulty of the prompts: a number, or 6x5")],
    count: Annotated[int, typer.Option(metavar="N", min=1, max=GREATEST_SEED, help="number of prompts")] = 10,
    seed: Annotated[
        int, typer.Option(metavar="S", min=0, max=GREATEST_SEED, help="the same seed gives the same prompts")
    ] = 0,
    options: TaskOption = None,
    kind: Annotated[
        str, typer.Option(metavar="KIND", help="evaluation, or as drawn for labels, supervised or the hard split: hard")
    ] = "evaluation",
    plugins: PluginOption = None,
) -> None:
    """Print prompts of a task, one a line.

    Example: easy2hard sample reverse-addition --difficulty 5 --count 3 --seed 1
    """
    import numpy as np

    from easy2hard.memory import TOKEN_BYTES, afford
    from easy2hard.seeding import numpy_generator
    from easy2hard.tasks.base import difficulty_text
    from easy2hard.tasks.registry import load_task

    load_plugins(plugins)
    loaded = load_task(task, _parse_options(options))
    try:
        wanted = loaded.parse_difficulty(difficulty)
    except ValueError as error:
        raise UserError(f"--difficulty {difficulty}: {error}") from error
    kinds = {
        "evaluation": loaded.sample,
        "labels": loaded.sample_practice,
        "supervised": loaded.sample_supervised,
        "hard": loaded.sample_hard,
    }
    if kind not in kinds:
        raise UserError(f"--kind {kind}: unknown (allowed: {', '.join(kinds)})")
    generator = numpy_generator(seed, "sample", difficulty_text(wanted))
    with loaded.kept():
        one = kinds[kind](np.random.default_rng(0), wanted, 1)
        loaded.check_prompts(one, 1)
        afford(f"--count {count}: prompts of {one.shape[1]:,} tokens:", count * one.shape[1] * TOKEN_BYTES)
        prompts = kinds[kind](generator, wanted, count)
        loaded.check_prompts(prompts, count)
    say(*loaded.vocabulary.decode_prompts(prompts))


def _parse_options(options: list[str] | None) -> dict[str, int | str]:
    parsed: dict[str, int | str] = {}
    for option in options or []:
        name, equals, value = (each.strip() for each in option.partition("="))
        if not equals or len(value) > 100 or (value.isdecimal() and len(value) > 10):
            raise UserError(f"--option {option!r}: expected NAME=VALUE, a number of at most 10 digits or a short text")
        parsed[name] = int(value) if value.isdecimal() else value
    return parsed


@app.command(rich_help_panel=DATA)
def oracle(task: TaskArgument, options: TaskOption = None, plugins: PluginOption = None) -> None:
    """Print the true answers to prompts on standard input, one a line.

    Example: echo '1368+9661=' | easy2hard oracle reverse-addition
    """
    from easy2hard.tasks.registry import load_oracle, load_task

    load_plugins(plugins)
    say(*load_oracle(load_task(task, _parse_options(options))).solve_texts(read_lines()))


@app.command(rich_help_panel=DATA)
def check(task: TaskArgument, options: TaskOption = None, plugins: PluginOption = None) -> None:
    """Judge answers of standard input.

    Lines are `prompt<TAB>answer`; for each, `right` or `wrong: reason` is printed.

    Example: printf '24=\\t42\\n' | easy2hard check reverse
    """
    from easy2hard.tasks.oracle import Checker
    from easy2hard.tasks.registry import load_oracle, load_task

    load_plugins(plugins)
    checker = Checker(load_oracle(load_task(task, _parse_options(options))))
    prompts, answers = [], []
    for number, line in enumerate(read_lines(), start=1):
        prompt, tab, answer = line.partition("\t")
        if not tab:
            raise UserError(f"line {number} {line!r}: expected prompt<TAB>answer")
        prompts.append(prompt)
        answers.append(answer)
    say(*("right" if reason is None else f"wrong: {reason}" for reason in checker.check(prompts, answers)))
