"""Ours beside the peer, alternating in one process; medians of ratios, and how cost grows.

    python -m benchmarks.bench [--only train answers …] [--sizes tiny small paper] [--repeats 5]

Writes ``benchmarks/results.json`` and prints the same as a table. In a comparison ``ours`` and ``peer`` are amounts a
second and ``ratio`` is the median of their paired ratios. In rows of growth, members and floors ``peer`` is what
``ours`` is compared with, as the row's unit says.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import peer
from benchmarks.memory import peak_memory
from easy2hard.engines.choice import build_engine
from easy2hard.engines.reference import ReferenceEngine
from easy2hard.improvement.proposals import propose
from easy2hard.learning.batches import Mixture, SupervisedSource
from easy2hard.learning.trainer import Step, fit
from easy2hard.models.transformer import Transformer
from easy2hard.runs import rounds
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.manifest import Manifest, RunDirectory, environment
from easy2hard.runs.progress_file import RunProgress
from easy2hard.runs.store import Store
from easy2hard.seeding import numpy_generator, torch_generator
from easy2hard.settings.model import PRESETS, ModelSize
from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.training import OptimiserSettings, PhaseSettings
from easy2hard.tasks.base import Difficulty, hardest
from easy2hard.tasks.prompts import Reserved
from easy2hard.tasks.registry import load_oracle, load_task
from easy2hard.vocabulary import SPECIAL, Tokens

RESULTS = Path(__file__).parent / "results.json"
TASK = load_task("copy")
ORACLE = load_oracle(TASK)
ADAMW = OptimiserSettings(name="adamw", learning_rate=2e-3)
SKIP = 2
"""Untimed steps at the beginning of each timed training."""


Timed = Callable[[], float]
"""Does some work and returns the seconds it took."""


@dataclass(frozen=True)
class Row:
    """One line of the results."""

    name: str
    size: str
    difficulty: int
    ours: float
    peer: float
    ratio: float
    unit: str
    machine: str = ""
    """What measured it; empty where nobody noted it."""


def paired(
    name: str, size: str, difficulty: int, unit: str, amount: float, repeats: int, ours: Timed, theirs: Timed
) -> Row:
    """Time both sides alternately; amounts a second, and the median of the paired ratios."""
    seconds = [(ours(), theirs()) for _ in range(repeats)]
    return Row(
        name,
        size,
        difficulty,
        statistics.median(amount / mine for mine, _ in seconds),
        statistics.median(amount / other for _, other in seconds),
        statistics.median(other / mine for mine, other in seconds),
        unit,
    )


def timed(work: Callable[[], object]) -> Timed:
    """Return ``work`` as something that reports its seconds."""

    def run() -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    return run


def build_member(size: str, member: int = 0) -> Transformer:
    """Return an untrained member."""
    return Transformer(PRESETS[size], len(TASK.vocabulary), torch_generator(0, "weights", member))


def as_peer(member: Transformer) -> Any:
    """Return the peer's model with the weights of ``member``: the names are Llama's."""
    model = peer.build_model(member.size, len(TASK.vocabulary))
    weights = {("" if name.startswith("lm_head") else "model.") + name: w for name, w in member.state_dict().items()}
    model.load_state_dict(weights)
    return model


class OneDifficulty(SupervisedSource):
    """True examples of one difficulty only, to measure cost at a length."""

    def _by_length(self, hardest: int) -> list[tuple[list[Difficulty], NDArray[np.float64]]]:
        return [([hardest], np.ones(1))]


def train_seconds(
    members: Sequence[Transformer],
    hardest: int,
    steps: int,
    batch: int = 256,
    optimiser: OptimiserSettings = ADAMW,
    precision: str = "float32",
    one_difficulty: bool = False,
) -> float:
    """Return the seconds of ``steps`` training steps."""
    source = (OneDifficulty if one_difficulty else SupervisedSource)(Reserved(TASK, 0, 1000), ORACLE, hardest)
    mixtures = [Mixture(0, ("bench", i), (source, 1.0), [], None, batch, 4) for i in range(len(members))]
    marks: list[float] = []

    def on_step(step: Step) -> None:
        marks.append(time.perf_counter())

    fit(build_engine(members, precision), mixtures, PhaseSettings(steps=steps + SKIP), optimiser, 1.0, on_step)
    return marks[-1] - marks[SKIP - 1]


STEPS = {"tiny": 30, "small": 12, "paper": 3}


def bench_train(sizes: Sequence[str], repeats: int) -> list[Row]:
    """(a) Training examples a second; and bfloat16 against float32 at the largest size."""
    tokenizer = peer.build_tokenizer(TASK.vocabulary)
    rows = []
    for size in sizes:
        steps, batch = STEPS[size], 256
        member, model = build_member(size), as_peer(build_member(size))
        examples = peer.copy_examples(0, tokenizer, range(1, 11), batch * (steps + SKIP))
        rows.append(
            paired(
                "train",
                size,
                10,
                "examples/s",
                batch * steps,
                repeats,
                partial(train_seconds, [member], 10, steps),
                partial(peer.train, model, tokenizer, examples, 256, steps, skip=SKIP),
            )
        )
    size = sizes[-1]
    member = build_member(size)
    rows.append(
        paired(
            "train_bfloat16_over_float32",
            size,
            10,
            "examples/s, ours in both",
            256 * STEPS[size],
            repeats,
            lambda: train_seconds([member], 10, STEPS[size], precision="bfloat16"),
            lambda: train_seconds([member], 10, STEPS[size]),
        )
    )
    return rows


BASES = Path("runs") / "bench"
"""Trained models that labelling and rounds start from; made on the first use and kept."""


def base_run(difficulty: int) -> RunDirectory:
    """Return a run of copy with one tiny member taught 1 to ``difficulty`` digits, and no rounds."""
    path = BASES / f"copy-{difficulty}"
    if not path.exists():
        steps = 300 if difficulty <= 20 else 600
        overrides = [
            "model.members=1",
            f"supervised.difficulty={difficulty}",
            f"supervised.steps={steps}",
            f"supervised.decay={steps // 2}",
            "rounds.count=0",
            'labels.filters=[{name="none"}]',
            "evaluation.beyond=0",
            "evaluation.examples=100",
        ]
        begin = time.perf_counter()
        rounds.start(load_recipe("copy-vote-cpu", overrides), path, Silent())
        print(f"{path}: trained in {time.perf_counter() - begin:.0f} s")
    return RunDirectory(path)


class Silent:
    """Hears of a run's progress and says nothing."""

    def phase(self, number: int, rounds: int, name: str, total: int) -> None:
        """Say nothing."""

    def step(self, step: Step) -> None:
        """Say nothing."""

    def advance(self, count: int) -> None:
        """Say nothing."""

    def where(self, now: RunProgress) -> None:
        """Say nothing."""

    def round(self, manifest: Manifest) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


def trained(run: RunDirectory) -> Transformer:
    """Return the first member of a run, as it is after the last round."""
    member = Experiment(run.settings).load(run).members[0]
    assert isinstance(member, Transformer)
    return member


def never_ending(member: Transformer) -> Transformer:
    """Make the special tokens so unlikely that nearly every answer has its full length, as of a trained model."""
    with torch.no_grad():
        member.lm_head.weight[:SPECIAL] = 0
    return member


def answering_member(size: str, difficulty: int) -> Transformer:
    """Return a member whose answers have full length: trained at ``tiny``, EOS suppressed elsewhere."""
    if size == "tiny":
        return trained(base_run(60 if difficulty > 20 else 20))
    return never_ending(build_member(size))


PROMPTS = {("tiny", 20): 4096, ("tiny", 60): 1024, ("small", 20): 2048, ("small", 60): 512, ("paper", 20): 256}


def bench_answers(sizes: Sequence[str], repeats: int) -> list[Row]:
    """(b) Self-labelled prompts a second and (c) evaluated prompts a second, at full answer length."""
    return [
        row
        for (size, difficulty), count in PROMPTS.items()
        if size in sizes
        for row in _answers(size, difficulty, count, repeats)
    ]


def _answers(size: str, difficulty: int, count: int, repeats: int) -> list[Row]:
    tokenizer = peer.build_tokenizer(TASK.vocabulary)
    member = answering_member(size, difficulty)
    model = as_peer(member)
    prompts = TASK.sample(numpy_generator(0, "bench", difficulty), difficulty, count)
    answers, bounds = ORACLE.solve(prompts), TASK.answer_bounds(prompts)
    texts = TASK.vocabulary.decode_prompts(prompts)
    bound = int(bounds.max())
    mine = TASK.vocabulary.decode_answers(build_engine([member]).answer(prompts, bounds)[0].tokens)
    same = np.mean([a == b for a, b in zip(mine, peer.generate(model, tokenizer, texts, bound), strict=True)])
    assert same > 0.99, f"the two sides answer differently ({same:.3f} the same)"
    label, generate = (
        timed(lambda: propose(build_engine([member]), TASK, difficulty, prompts)),
        timed(lambda: peer.generate(model, tokenizer, texts, bound)),
    )
    evaluate, compare = (
        timed(lambda: build_engine([member]).matches([(prompts, answers)])),
        timed(lambda: peer.evaluate(model, tokenizer, texts, bound)),
    )
    return [
        paired("label", size, difficulty, "prompts/s", count, repeats, label, generate),
        paired("evaluate", size, difficulty, "prompts/s", count, repeats, evaluate, compare),
    ]


ROUND = {"labels": 2000, "steps": 120, "examples": 200, "beyond": 5}


def our_round(base: RunDirectory) -> float:
    """Return the seconds of one whole round by the product itself: label, ledger, train, evaluate, save."""
    with TemporaryDirectory() as folder:
        settings = base.settings
        changed = {
            "rounds": settings.rounds.model_copy(update={"count": 1, "steps": ROUND["steps"]}),
            "labels": settings.labels.model_copy(update={"count": ROUND["labels"]}),
            "schedule": settings.schedule.model_copy(update={"stride": 1}),
            "optimiser": ADAMW,
            "evaluation": settings.evaluation.model_copy(
                update={"examples": ROUND["examples"], "beyond": ROUND["beyond"]}
            ),
        }
        store = Store(base.path).branch(Path(folder) / "run", 0, settings.model_copy(update=changed))
        begin = time.perf_counter()
        rounds.resume(store, Silent())
        return time.perf_counter() - begin


def peer_round(base: RunDirectory) -> float:
    """Return the seconds of the same round by the peer."""
    d0 = base.settings.supervised.difficulty
    tokenizer = peer.build_tokenizer(TASK.vocabulary)
    model = as_peer(trained(base))
    begin = time.perf_counter()
    peer.one_round(
        model, tokenizer, d0, [], d0 + 1, ROUND["labels"], ROUND["steps"], ROUND["examples"], ROUND["beyond"]
    )
    return time.perf_counter() - begin


def bench_round(sizes: Sequence[str], repeats: int) -> list[Row]:
    """(d) One whole round of copy from the same weights: equal labels, steps, batch and evaluated prompts."""
    base = base_run(20)
    repeats = min(repeats, 3)
    row = paired("round", "tiny", 21, "rounds/s", 1, repeats, lambda: our_round(base), lambda: peer_round(base))
    return [row]


GENERATED: list[tuple[str, Difficulty, int]] = [
    ("copy", 20, 20_000),
    ("copy", 60, 20_000),
    ("reverse-addition", 20, 20_000),
    ("forward-addition", 20, 20_000),
    ("multiplication", (6, 6), 4_000),
    ("maze-hops", 9, 2_000),
]


def bench_generate(sizes: Sequence[str], repeats: int) -> list[Row]:
    """(e) Prompts with true answers a second, as token arrays, on one core; mazes have 30 nodes."""
    rows = []
    for name, difficulty, count in GENERATED:
        task = load_task(name)
        oracle, tokenizer = load_oracle(task), peer.build_tokenizer(task.vocabulary)
        make: Any = peer.EXAMPLES[name]
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            oracle.solve(task.sample(np.random.default_rng(0), difficulty, count))
            middle = time.perf_counter()
            make(np.random.default_rng(0), tokenizer, hardest(difficulty), count // 20)
            seconds.append(((middle - begin) / count, (time.perf_counter() - middle) * 20 / count))
        mine, other = (statistics.median(column) for column in zip(*seconds, strict=True))
        ratio = statistics.median(theirs / ours for ours, theirs in seconds)
        rows.append(Row(f"generate {name}", "-", hardest(difficulty), 1 / mine, 1 / other, ratio, "examples/s"))
    return rows


def bench_growth(sizes: Sequence[str], repeats: int) -> list[Row]:
    """Cost of a token of prompt or answer by difficulty: training and decoding; 20 digits is the measure."""
    rows = []
    for name, cost in (("train_growth", _train_cost), ("label_growth", _label_cost)):
        difficulties = (10, 20, 50, 100, 200)
        seconds = [{d: cost(d) for d in difficulties} for _ in range(min(repeats, 3))]
        for d in difficulties:
            ours, measure = (statistics.median(each[k] for each in seconds) * 1e6 for k in (d, 20))
            ratio = statistics.median(each[d] / each[20] for each in seconds)
            rows.append(Row(name, "tiny", d, ours, measure, ratio, "microseconds a token; peer: ours at 20 digits"))
    return rows


def _train_cost(difficulty: int) -> float:
    steps, batch = 4, max(16, 5120 // difficulty)
    seconds = train_seconds([build_member("tiny")], difficulty, steps, batch, one_difficulty=True)
    return seconds / (steps * batch * (2 * difficulty + 3))


def _label_cost(difficulty: int) -> float:
    member, count = never_ending(build_member("tiny")), 30720 // difficulty
    prompts = TASK.sample(numpy_generator(0, "bench", difficulty), difficulty, count)
    return timed(lambda: propose(build_engine([member]), TASK, difficulty, prompts))() / (count * (2 * difficulty + 3))


def bench_members(sizes: Sequence[str], repeats: int) -> list[Row]:
    """Cost of 1 to 5 members: training, and labelling with drafts."""
    rows = []
    base = trained(base_run(20))
    prompts = TASK.sample(numpy_generator(0, "bench", 20), 20, 2048)
    unit = "seconds; peer: ours with one member"
    runs: list[tuple[str, Callable[[int], float]]] = [
        ("train_members", lambda k: train_seconds([build_member("tiny", i) for i in range(k)], 10, 20)),
        ("label_members", lambda k: timed(lambda: propose(build_engine([base] * k), TASK, 20, prompts))()),
    ]
    for name, run in runs:
        seconds = [{k: run(k) for k in range(1, 6)} for _ in range(min(repeats, 3))]
        for k in range(1, 6):
            ours, one = (statistics.median(each[n] for each in seconds) for n in (k, 1))
            ratio = statistics.median(each[k] / each[1] for each in seconds)
            rows.append(Row(f"{name}_{k}", "tiny", 20 if "label" in name else 10, ours, one, ratio, unit))
    return [*rows, *_drafts(base, prompts, min(repeats, 3))]


def _drafts(base: Transformer, prompts: Tokens, repeats: int) -> list[Row]:
    """What drafts save at best, between members that always agree."""
    unit = "prompts/s with drafts; peer: without"

    def answer(members: list[Transformer], drafts: bool) -> None:
        engine = build_engine(members)
        assert isinstance(engine, ReferenceEngine)
        engine._drafts_pay = lambda answers: drafts  # type: ignore[method-assign]
        propose(engine, TASK, 20, prompts)

    return [
        paired(
            f"label_drafts_{k}",
            "tiny",
            20,
            unit,
            len(prompts),
            repeats,
            timed(lambda: answer([base] * k, True)),  # noqa: B023
            timed(lambda: answer([base] * k, False)),  # noqa: B023
        )
        for k in (2, 3, 5)
    ]


def peak_flops(size: int = 2048) -> float:
    """Return the machine's floating-point operations a second in a square float32 matrix product."""
    a = torch.randn(size, size)
    return 2 * size**3 / min(timed(lambda: a @ a)() for _ in range(5))


def forward_flops(size: ModelSize, vocabulary: int, time: int, first: int) -> int:
    """Return the operations of one row's forward pass: matrix products only, the last block from ``first`` on."""
    total = 0
    for layer in range(size.layers):
        asked = time - first if layer == size.layers - 1 else time
        total += 2 * time * size.width * 2 * size.width  # keys, values
        total += 2 * asked * size.width * 2 * size.width  # queries, output
        total += 4 * asked * time * size.width  # scores and weighted values
        total += 2 * asked * size.width * 3 * size.feed_forward
    return total + 2 * (time - first) * size.width * vocabulary


def copied_bytes(size: int = 1 << 28) -> float:
    """Return the bytes a second that the machine reads and writes when it copies what no cache holds."""
    source, target = torch.zeros(size // 4), torch.empty(size // 4)
    return 2 * size / min(timed(lambda: target.copy_(source))() for _ in range(5))


def forward_bytes(size: ModelSize, time: int, first: int) -> int:
    """Return the bytes of one row's activations that a forward pass writes and reads again, at the least."""
    total = 0
    for layer in range(size.layers):
        asked = time - first if layer == size.layers - 1 else time
        # Input and norm; queries, keys, values; scores; output of attention, residual, norm; gate, up, down's input.
        total += time * 2 * size.width + (2 * time + asked) * size.width + asked * time * size.heads
        total += asked * (3 * size.width + 3 * size.feed_forward)
    return 2 * 4 * total


def cache_bytes(size: ModelSize, prompt: int, answer: int) -> int:
    """Return the bytes of keys and values that one row's decoding reads."""
    return sum(4 * 2 * size.width * size.layers * (prompt + step) for step in range(1, answer))


def bench_floors(sizes: Sequence[str], repeats: int) -> list[Row]:
    """Operations and bytes a second of each phase, and the share of what the machine was measured to do."""
    rows = []
    peak = statistics.median(peak_flops() for _ in range(repeats))
    bandwidth = copied_bytes()
    for size in sizes:
        shape, member, steps = PRESETS[size], build_member(size), STEPS[size]
        difficulty, batch = 20, 256
        time, first = 2 * difficulty + 2, difficulty + 1
        count = PROMPTS[size, difficulty]
        prompts = TASK.sample(numpy_generator(0, "bench", difficulty), difficulty, count)
        answers, ending = ORACLE.solve(prompts), never_ending(member)
        seconds = {
            "train": train_seconds([member], difficulty, steps, batch, one_difficulty=True) / (steps * batch),
            "label": timed(lambda: propose(build_engine([ending]), TASK, difficulty, prompts))() / count,  # noqa: B023
            "evaluate": timed(lambda: build_engine([member]).matches([(prompts, answers)]))() / count,  # noqa: B023
        }
        pass_, whole = (forward_flops(shape, len(TASK.vocabulary), time, start) for start in (first, 0))
        operations = {"train": 3 * pass_, "label": whole, "evaluate": pass_}
        moved = {
            "train": 3 * forward_bytes(shape, time, first),
            "label": forward_bytes(shape, time, 0) + cache_bytes(shape, first + 1, first),
            "evaluate": forward_bytes(shape, time, first),
        }
        for phase, each in seconds.items():
            for kind, amount, most, unit in (
                ("floor", operations[phase], peak, "GFLOP/s; peer: 2048-cubed matrix product"),
                ("bytes", moved[phase], bandwidth, "GB/s; peer: copying past the caches"),
            ):
                rate = amount / each
                rows.append(Row(f"{phase}_{kind}", size, difficulty, rate / 1e9, most / 1e9, rate / most, unit))
    return rows


def memory_of(side: str) -> None:
    """Train, label and evaluate once at ``small`` and 60 digits."""
    difficulty, count = 60, 2048
    member = never_ending(build_member("small"))
    prompts = TASK.sample(numpy_generator(0, "bench", difficulty), difficulty, count)
    if side == "ours":
        train_seconds([member], difficulty, 3)
        propose(build_engine([member]), TASK, difficulty, prompts)
        build_engine([member]).matches([(prompts, ORACLE.solve(prompts))])
    else:
        tokenizer = peer.build_tokenizer(TASK.vocabulary)
        model = as_peer(member)
        examples = peer.copy_examples(0, tokenizer, range(1, difficulty + 1), 256 * 3)
        peer.train(model, tokenizer, examples, 256, 3)
        peer.evaluate(model, tokenizer, TASK.vocabulary.decode_prompts(prompts), difficulty + 1)


def bench_memory(sizes: Sequence[str], repeats: int) -> list[Row]:
    """(f) Peak memory of a process that trains, labels and evaluates, and of those it starts."""
    mine, other = (peak_memory([sys.executable, "-m", "benchmarks.bench", "--memory", side]) for side in SIDES)
    return [Row("memory", "small", 60, mine, other, other / mine, "MiB at the peak")]


SIDES = ("ours", "peer")


SECTIONS = {
    "train": bench_train,
    "answers": bench_answers,
    "round": bench_round,
    "generate": bench_generate,
    "memory": bench_memory,
    "growth": bench_growth,
    "members": bench_members,
    "floors": bench_floors,
}


def main() -> None:
    """Run the sections asked for; rows that are not measured anew stay in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--sizes", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--memory", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        memory_of(options.memory)
        return
    rows = [Row(**row) for row in json.loads(options.out.read_text())] if options.out.exists() else []
    for section in options.only:
        fresh = [replace(row, machine=here()) for row in SECTIONS[section](options.sizes, options.repeats)]
        show(fresh)
        measured = {(row.name, row.size, row.difficulty) for row in fresh}
        rows = [row for row in rows if (row.name, row.size, row.difficulty) not in measured] + fresh
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(options.out)


def here() -> str:
    """Return what this machine is."""
    return f"{torch.get_num_threads()} cores of {environment('copy')['processor']}, torch {torch.__version__}"


def show(rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    table = Table("name", "size", "digits", "ours", "peer", "ratio", "unit")
    for row in rows:
        table.add_row(
            row.name,
            row.size,
            str(row.difficulty),
            f"{row.ours:,.4g}",
            f"{row.peer:,.4g}",
            f"{row.ratio:.2f}",
            row.unit,
        )
    Console().print(table)


if __name__ == "__main__":
    main()
