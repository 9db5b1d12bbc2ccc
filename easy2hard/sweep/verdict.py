"""What the rows of a sweep say: a summary and a place for each variant, its gap to the oracle, and a sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from easy2hard.report.compare import range_text
from easy2hard.sweep.row import Row

LEAST = 3
"""Seeds without which a variant is not ranked: of two equal variants, three seeds each come apart by chance once in ten
times, two seeds each once in three."""

Place = tuple[int, int] | None
"""The first and the last place that a variant may have; None where it is not ranked."""


FIGURES = (
    "reach",
    "at_compared",
    "gap_reach",
    "gap_exact_match",
    "baseline",
    "frontier",
    "lowest_precision",
    "seconds",
)
"""What is summed up of a variant's runs."""


@dataclass(frozen=True)
class Summary:
    """A variant: what its seeds came to."""

    variant: str
    rows: Sequence[Row]
    """Of its runs, those without a result included."""
    place: Place

    @cached_property
    def measured(self) -> list[Row]:
        """The runs that have a result."""
        return [row for row in self.rows if row.reach is not None]

    def values(self, name: str) -> list[float]:
        """Return a figure of each run that has it."""
        return [value for row in self.measured if (value := getattr(row, name)) is not None]

    @property
    def mean_gap(self) -> float:
        """What true answers would have added to the exact match where all are compared; it is known."""
        gaps = self.values("gap_exact_match")
        return sum(gaps) / len(gaps)

    def as_json(self) -> dict[str, Any]:
        """Return it as ``results.json`` has it."""
        first = self.rows[0]
        return {
            "variant": self.variant,
            "task": first.task,
            "runs": len(self.rows),
            "measured": len(self.measured),
            "supervised_signals": first.supervised_signals,
            "place": self.place,
            "compared_at": max(self.values("compared_at"), default=None),
            "oracle": first.oracle,
            **{name: _spread(self.values(name)) for name in FIGURES},
        }


def places(values: Mapping[str, Sequence[Any]]) -> dict[str, Place]:
    """Return for each name the first and the last place it may have, best first, by ranges alone.

    One comes before another where the least of its values is greater than the greatest of the other's. A name with
    fewer than ``LEAST`` values has no place and does not count for others; places that overlap are not ranked.

    Args:
        values: of each name, greater is better; numbers, or tuples whose first difference decides.
    """
    ranked = {name: each for name, each in values.items() if len(each) >= LEAST}
    return {
        name: (
            1 + sum(min(other) > max(each) for other in ranked.values()),
            len(ranked) - sum(max(other) < min(each) for other in ranked.values()),
        )
        if name in ranked
        else None
        for name, each in values.items()
    }


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """Return a summary of each variant; those of one task are ranked among themselves, without the references.

    The greater reach comes first; at equal reach, the greater exact match where all are compared.
    """
    by_variant: dict[str, list[Row]] = {}
    for row in rows:
        by_variant.setdefault(row.variant, []).append(row)
    ranks: dict[str, Place] = {}
    for task in dict.fromkeys(row.task for row in rows):
        rivals = {
            variant: [(row.reach, row.at_compared or 0.0) for row in own if row.reach is not None]
            for variant, own in by_variant.items()
            if own[0].task == task and not own[0].reference
        }
        if len(rivals) > 1:
            ranks |= places(rivals)
    return [Summary(name, own, ranks.get(name)) for name, own in by_variant.items()]


def table(found: Sequence[Summary], bar: float) -> tuple[list[str], list[list[str]]]:
    """Return the head of the table, and a line for each variant: means, and ranges over the seeds."""
    at = {at for each in found for at in each.values("compared_at")}
    exact = f"exact match at {min(at):g}" if len(at) == 1 else "exact match at the hardest"
    head = ["variant", "seeds", f"reach at {bar:g}", exact, "place"]
    against = any(each.rows[0].oracle for each in found)
    baseline = any(each.values("baseline") for each in found)
    head += ["gap in reach", "gap in exact match"] * against + ["baseline"] * baseline
    lines = []
    for each in found:
        runs, measured = len(each.rows), len(each.measured)
        line = [
            each.variant + (" (SUPERVISED)" if each.rows[0].supervised_signals else ""),
            str(measured) if measured == runs else f"{measured} of {runs}",
            range_text(each.values("reach"), digits=1),
            range_text(each.values("at_compared"), digits=3),
            place_text(each.place),
        ]
        if against:
            line += [
                range_text(each.values("gap_reach"), digits=1),
                range_text(each.values("gap_exact_match"), digits=3),
            ]
        line += [range_text(each.values("baseline"), digits=3)] * baseline
        line += [
            range_text(each.values("frontier"), digits=1),
            range_text(each.values("lowest_precision")),
            range_text(each.values("seconds"), digits=0),
        ]
        lines.append(line)
    return [*head, "frontier", "lowest label precision", "seconds"], lines


def place_text(place: Place) -> str:
    """Return a place as people say it: ``1``, ``2 to 4``, or a dash."""
    if place is None:
        return "-"
    return str(place[0]) if place[0] == place[1] else f"{place[0]} to {place[1]}"


def verdict(found: Sequence[Summary]) -> str:
    """Return what came out, in a sentence for each thing that was asked."""
    rows = [row for each in found for row in each.rows]
    measured = sum(len(each.measured) for each in found)
    if not measured:
        return f"Nothing is measured yet: none of {len(rows)} runs has ended."
    tasks = dict.fromkeys(row.task for row in rows)
    said = []
    for task in tasks:
        own = [each for each in found if each.rows[0].task == task]
        where = f"{task}: " if len(tasks) > 1 else ""
        said += [where + sentence for sentence in (_first(own), _gap(own), _baseline(own)) if sentence]
    if measured < len(rows):
        said.append(f"So far {measured} of {len(rows)} runs have a result.")
    return " ".join(said)


def _first(found: Sequence[Summary]) -> str:
    """Return which variant comes first, as far as the ranges say it."""
    rivals = [each for each in found if not each.rows[0].reference]
    ranked = [each for each in rivals if each.place]
    if len(rivals) == 1:
        (one,) = rivals
        reach = range_text(one.values("reach"), digits=1)
        return f"{one.variant} reaches {reach}." if one.measured else f"{one.variant} has no result yet."
    if len(ranked) < 2:
        return f"There is no ranking: that needs two variants or more with {LEAST} seeds or more each."
    first = [each for each in ranked if each.place and each.place[0] == 1]
    if len(first) == len(ranked):
        return "A ranking is not supported by the ranges: those of all variants overlap."
    if len(first) == 1:
        reach = range_text(first[0].values("reach"), digits=1)
        return (
            f"{first[0].variant} comes first, with reach {reach}: its worst seed is better than the best of all others."
        )
    return f"One of {_listed([each.variant for each in first])} comes first: their ranges overlap."


def _gap(found: Sequence[Summary]) -> str:
    """Return the gap to the oracle in words; of several variants, the least and the greatest."""
    known = sorted((each for each in found if each.values("gap_exact_match")), key=lambda each: each.mean_gap)
    if len(known) < 2:
        return "".join(f"True answers would add {gap_text(each)}." for each in known)
    least, most = known[0], known[-1]
    return (
        f"True answers would add least to {least.variant}, {gap_text(least)}, and most to {most.variant}, "
        f"{gap_text(most)}."
    )


def _baseline(found: Sequence[Summary]) -> str:
    """Return how well the task is answered without having been learned, and which variants do no better."""
    known = [each for each in found if each.values("baseline") and not each.rows[0].reference]
    if not known:
        return ""
    no_more = [each.variant for each in known if sum(each.values("at_compared")) <= sum(each.values("baseline"))]
    baseline, at = range_text(known[0].values("baseline"), digits=3), known[0].values("compared_at")[0]
    more = f", and {_listed(no_more)} no more" if no_more else ""
    return f"The task's baseline has {baseline} of exact match at {at:g}{more}."


def gap_text(each: Summary) -> str:
    """Return the gap of a variant to the oracle in words; it has one."""
    reach, exact = (range_text(each.values(f"gap_{what}"), digits=d) for what, d in (("reach", 1), ("exact_match", 3)))
    return f"{exact} of exact match at {each.values('compared_at')[0]:g} and {reach} of reach"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    return {"mean": sum(values) / len(values), "least": min(values), "greatest": max(values)} if values else None
