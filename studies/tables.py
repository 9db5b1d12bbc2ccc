"""Make the tables of RESULTS.md and docs/results anew from docs/results/data (`make results`).

A page has a table between two lines, and a row that a table has among others ends with a mark:

    <!-- table: NAME KIND -->
    <!-- end -->
    | ... | the last cell stays <!--row:NAME--> |

NAME is a record's (studies/record.py), or several, joined by commas. KIND is a key of ``TABLES``; ``rounds 5`` has the
first two rounds, every fifth and the last.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from easy2hard.errors import UserError
from easy2hard.evaluation.reach import is_missed
from easy2hard.tasks.base import parse_difficulty, span
from studies.record import DATA, Study

PAGES = [DATA.parents[2] / "RESULTS.md", *sorted(DATA.parent.glob("*.md"))]
LISTED = 6
"""Pairs of difficulties that a cell names one by one; of more it names those that no other one goes beyond."""
USUAL = 1000
"""Evaluation prompts of each difficulty where a row does not say how many."""
RUNS = ["recipe", "taught", "climbs to", "lowest label precision", "seed", "time", "commit"]


ROUNDS = [
    *("round", "labels of", "kept", "label precision"),
    *("exact match there", "at what comes next", "lowest so far", "seconds"),
]
PIECES = [
    *("piece", "rounds", "labelled", "settings other than the recipe's"),
    *("lowest label precision", "seconds", "commit"),
]


def share(value: float | None) -> str:
    """Return a share with two to four digits behind the point; what is below 1 is never rounded to it."""
    if value is None:
        return "-"
    text = f"{value if value == 1 else min(value, 0.9999):.4f}".rstrip("0")
    return text.ljust(len("0.00"), "0")


def numbers(text: str) -> tuple[int, ...]:
    """Return a difficulty as a tuple of one number or two."""
    difficulty = parse_difficulty(text)
    return difficulty if isinstance(difficulty, tuple) else (difficulty,)


def within(text: str, bound: str) -> bool:
    """Return whether a difficulty is no harder than another in either number."""
    return all(ours <= its for ours, its in zip(numbers(text), numbers(bound), strict=True))


def corners(texts: Iterable[str]) -> list[str]:
    """Return the difficulties that no other one of them goes beyond: of single numbers the greatest."""
    known = list(texts)
    return [each for each in known if not any(each != other and within(each, other) for other in known)]


def named(texts: Sequence[str]) -> str:
    """Return difficulties in a few words."""
    if "x" in texts[0]:
        return ", ".join(texts) if len(texts) <= LISTED else f"up to {', '.join(corners(texts))}"
    return span([parse_difficulty(each) for each in texts])


def lowest(scores: Iterable[float]) -> str:
    """Return the lowest of some shares."""
    return share(min(scores, default=None))


def lowest_precision(study: Study, first: int = 0, last: int | None = None) -> str:
    """Return the lowest label precision of the rounds from ``first`` to ``last``."""
    rounds = study.rounds[first : None if last is None else last + 1]
    return lowest(each.precision for each in rounds if each.precision is not None)


def climbs(study: Study) -> str:
    """Return how far a run came by its first evaluation, in words."""
    found, taught = study.evaluations[0], study.rounds[0].difficulties
    missed = [text for text, score in found.accuracy.items() if is_missed(score, found.examples)]
    solved = [text for text in found.accuracy if not any(within(each, text) for each in missed)]
    who = "" if found.examples == USUAL else f" ({found.examples:,} prompts each)"
    if missed and set(solved) <= set(taught):
        easiest = min(missed, key=numbers)
        return f"does not climb: {share(found.accuracy[easiest])} at {easiest}{who}"
    furthest, least = corners(solved), min(found.accuracy[text] for text in solved)
    score = share(least) + " or more" * (least < 1)
    if "x" in furthest[0]:
        return f"{', '.join(furthest)}, each pair at {score}{who}"
    return f"{furthest[0]} {study.unit}, each at {score}{who}"


def taught(study: Study) -> str:
    """Return which difficulties had true answers."""
    texts = study.rounds[0].difficulties
    return named(texts) if "x" in texts[0] else f"{named(texts)} {study.unit}"


def run_cells(study: Study) -> list[str]:
    """Return the cells of a run's row, under ``RUNS``."""
    recipe = f"`{study.recipe}`"
    if len(study.pieces) > 1:
        recipe += f" in {len(study.pieces)} pieces"
    elif study.pieces[0].settings:
        others = len(study.pieces[0].settings)
        recipe += f" with {others} other setting{'s' * (others > 1)}"
    if study.status != "finished":
        recipe += f", to round {study.rounds[-1].round}"
    seconds = sum(each.seconds for each in study.rounds)
    commits = ", ".join(dict.fromkeys(f"`{each.commit}`" for each in study.pieces if each.commit)) or "-"
    return [
        recipe,
        taught(study),
        climbs(study),
        lowest_precision(study),
        str(study.seed),
        f"{study.machine}, {seconds:,.0f} s",
        commits,
    ]


def joined(studies: Sequence[Study]) -> list[str]:
    """Return one row for several runs: where cells differ, semicolons join them."""
    return ["; ".join(dict.fromkeys(cells)) for cells in zip(*map(run_cells, studies), strict=True)]


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings as ``--set`` takes them, and those that only the recipe has."""
    parts = (f"no `{key}`" if value is None else f"`{key}={inline(value)}`" for key, value in settings.items())
    return ", ".join(parts) or "-"


def inline(value: Any) -> str:
    """Return a value of TOML on one line."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}={inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(inline, value)) + "]"
    return json.dumps(value)


def runs_table(studies: Sequence[Study], _: int) -> list[list[str]]:
    """Return a row for each run."""
    return [RUNS, *map(run_cells, studies)]


def rounds_table(studies: Sequence[Study], every: int) -> list[list[str]]:
    """Return a row for each round, or for every so many."""
    rows = [ROUNDS]
    for study in studies:
        for each, following in zip_longest(study.rounds, study.rounds[1:]):
            if each.round > 1 and each.round % every and following:
                continue
            there, scores = each.difficulties, each.exact_match
            beyond = [text for text in scores if text not in there][:2]
            if "x" in there[0]:  # of the many pairs beyond, those that the next round labels
                beyond = [text for text in following.difficulties if text in scores] if following else []
            rows.append(
                [
                    str(each.round) + (", held" if each.held else ""),
                    named(there) if each.round else f"{named(there)}, true answers",
                    f"{each.kept:,} of {each.proposed:,}" if each.round else "-",
                    share(each.precision),
                    lowest(scores[text] for text in there if text in scores),
                    ", ".join(f"{text}: {share(scores[text])}" for text in beyond) or "-",
                    share(each.lowest),
                    f"{each.seconds:,.0f}",
                ]
            )
    return rows


def pieces_table(studies: Sequence[Study], _: int) -> list[list[str]]:
    """Return a row for each piece of a run."""
    rows = [PIECES]
    for study in studies:
        for number, piece in enumerate(study.pieces, start=1):
            made = study.rounds[piece.first : piece.last + 1]
            labelled = [text for each in made if each.round for text in each.difficulties]
            rows.append(
                [
                    str(number),
                    span([piece.first, piece.last]),
                    named(sorted(dict.fromkeys(labelled), key=numbers)) if labelled else "-",
                    settings_text(piece.settings),
                    lowest_precision(study, piece.first, piece.last),
                    f"{sum(each.seconds for each in made):,.0f}",
                    f"`{piece.commit}`" if piece.commit else "-",
                ]
            )
    return rows


def evaluations_table(studies: Sequence[Study], _: int) -> list[list[str]]:
    """Return a row for each evaluation that was kept: exact match, neighbours of one value together."""
    rows = [["round", "prompts of each", "exact match", "hard split"]]
    for study in studies:
        for each in study.evaluations:
            rows.append([str(each.round), f"{each.examples:,}", _scores(each.accuracy), _scores(each.hard_split)])
    return rows


def _scores(scores: Mapping[str, float]) -> str:
    """Return scores by difficulty; difficulties without a gap that share a value are named together."""

    def alike(item: tuple[int, str]) -> tuple[object, ...]:
        place, text = item
        *row, last = numbers(text)
        return share(scores[text]), row, last - place

    groups = groupby(enumerate(sorted(scores, key=numbers)), key=alike)
    parts = (f"{span([parse_difficulty(text) for _, text in group])}: {key[0]}" for key, group in groups)
    return ", ".join(parts) or "-"


def seconds_table(studies: Sequence[Study], _: int) -> list[list[str]]:
    """Return a row for each run: its seconds by phase."""
    phases = list(dict.fromkeys(phase for study in studies for phase in study.phase_seconds))
    rows = [["recipe", "seed", "machine", *phases]]
    for study in studies:
        own = [f"{study.phase_seconds.get(phase, 0):,.0f}" for phase in phases]
        rows.append([f"`{study.recipe}`", str(study.seed), study.machine, *own])
    return rows


TABLES = {
    "runs": runs_table,
    "rounds": rounds_table,
    "pieces": pieces_table,
    "evaluations": evaluations_table,
    "seconds": seconds_table,
}


def line(cells: Iterable[str]) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def load(names: str, data: Path) -> list[Study]:
    """Return the records of these names, which commas join.

    Raises:
        UserError: one is missing or is no record.
    """
    found = []
    for name in names.split(","):
        path = data / f"{name}.json"
        try:
            found.append(Study.model_validate_json(path.read_bytes()))
        except FileNotFoundError:
            raise UserError(f"{path}: missing; `python -m studies.record RUN --name {name}` writes it") from None
        except ValidationError as error:
            raise UserError(f"{path}: no record of a run: {str(error).splitlines()[1]}") from error
    return found


def rewritten(text: str, data: Path = DATA) -> str:
    """Return a page with its tables and rows made anew.

    Raises:
        UserError: a mark has no end, an unknown kind, or a record that is not there.
    """

    def table(mark: re.Match[str]) -> str:
        names, kind, every = mark["names"], mark["kind"], int(mark["every"] or 1)
        files = ", ".join(f"[{name}.json](data/{name}.json)" for name in names.split(","))
        if kind not in TABLES:
            raise UserError(f"{mark['mark']}: {kind!r} is no kind of table (allowed: {', '.join(TABLES)})")
        head, *rows = TABLES[kind](load(names, data), every)
        lines = [line(head), "|---" * len(head) + "|", *map(line, rows), "", f"Generated from {files}."]
        return "\n".join([mark["mark"], "", *lines, "", "<!-- end -->"])

    def row(mark: re.Match[str]) -> str:
        return line([*joined(load(mark["names"], data)), mark["kept"]])

    pattern = (
        r"(?P<mark><!-- table: (?P<names>\S+) (?P<kind>\S+)(?: (?P<every>[1-9]\d*))? -->)"
        r"(?:(?!<!-- table).)*?<!-- end -->"
    )
    text, tables = re.subn(pattern, table, text, flags=re.DOTALL)
    if tables != text.count("<!-- table:") or tables != text.count("<!-- end -->"):
        raise UserError("a table is not between <!-- table: NAME KIND --> and <!-- end -->")
    return re.sub(r"^\|.*\| (?P<kept>[^|\n]*<!--row:(?P<names>\S+?)-->) \|$", row, text, flags=re.MULTILINE)


def main() -> None:
    """Write the pages whose tables have changed."""
    for page in PAGES:
        before = page.read_text()
        after = rewritten(before)
        if after != before:
            page.write_text(after)
            print(f"{page}: written")


if __name__ == "__main__":
    main()
