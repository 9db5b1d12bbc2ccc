"""One GPU in four minutes: is it right, how fast is it, and how fast is what people use today.

    python -m benchmarks.gpu --out runs/gpu [--device cuda] [--only train label …] [--climb MINUTES]

Needs no installation: it runs from a checkout. ``results.json`` under ``--out`` is written anew after each measurement
and holds all of them so far; the same lines are printed. A section that fails is printed with its traceback and noted
down, and the others go on. The end tells which aims were reached. ``--device cpu --quick`` measures nothing worth
knowing: it runs every section, for tests.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import peer
from easy2hard.engines.choice import find_device
from easy2hard.engines.cuda.decoding import see
from easy2hard.engines.cuda.engine import CudaEngine
from easy2hard.engines.cuda.stack import SlicedProduct
from easy2hard.engines.cuda.training import TOLD, StackedCrew
from easy2hard.engines.engine import Group
from easy2hard.engines.reference import ReferenceEngine, Runner
from easy2hard.improvement.proposals import propose
from easy2hard.learning.batches import Mixture, SupervisedSource
from easy2hard.learning.trainer import Step, fit
from easy2hard.models.transformer import Transformer, product
from easy2hard.runs import rounds
from easy2hard.runs.manifest import Manifest
from easy2hard.runs.progress_file import RunProgress
from easy2hard.runs.store import Store
from easy2hard.seeding import numpy_generator, torch_generator
from easy2hard.settings.model import PRESETS, ModelSize
from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.training import OptimiserSettings, PhaseSettings
from easy2hard.tasks.prompts import Reserved
from easy2hard.tasks.registry import load_oracle, load_task
from easy2hard.vocabulary import EOS

TASK = load_task("reverse-addition")
ORACLE = load_oracle(TASK)
ADAMW = OptimiserSettings(name="adamw", learning_rate=5e-4)
MUON = OptimiserSettings(name="muon")
CASES = (("tiny", "float32"), ("tiny", "bfloat16"), ("paper", "bfloat16"), ("small", "bfloat16"))
"""Sizes and precisions, of ours and of the peer."""
AIMS = {"train tiny": 12, "train paper": 5, "label tiny": 10, "label paper": 12, "evaluate": 20, "a whole round": 10}
"""Times as fast as the peer, by the beginnings of the rows' names."""
OVER_ONE = 2
"""Times a step of one member that a step of three may take at ``tiny``."""
KILLED_AT = (1, 15)
"""Round and step at whose end a run is killed."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    sizes: dict[str, ModelSize]
    hardest: int
    batch: int
    steps: int
    peer_steps: int
    prompts: int
    digits: tuple[int, int]
    stock: int
    product: int
    round: tuple[str, ...]
    """Settings of the whole round."""


WHOLE = Scale(
    sizes=dict(PRESETS),
    hardest=16,
    batch=1024,
    steps=5 * TOLD,
    peer_steps=25,
    prompts=4096,
    digits=(20, 100),
    stock=1 << 17,
    product=8192,
    round=(
        "model.preset=tiny",
        "model.members=1",
        "training.batch=512",
        "supervised.difficulty=20",
        "supervised.steps=40",
        "supervised.warmup=0",
        "supervised.decay=0",
        "rounds.count=2",
        "schedule.stride=1",
        "labels.count=4096",
        "rounds.steps=60",
        "rounds.warmup=0",
        "rounds.decay=0",
        "labels.filters=[{name='none'}]",
        "watch.enabled=false",
        "evaluation.examples=200",
        "evaluation.beyond=5",
    ),
)
TOY = ModelSize(width=32, layers=2, heads=2, feed_forward=64)
QUICK = Scale(
    sizes={"tiny": TOY, "small": TOY, "paper": TOY},
    hardest=3,
    batch=32,
    steps=2 * TOLD,
    peer_steps=2,
    prompts=16,
    digits=(3, 4),
    stock=500,
    product=64,
    round=(
        *WHOLE.round,
        *(f"model.{name}={value}" for name, value in TOY.model_dump().items()),
        "training.batch=32",
        "supervised.difficulty=3",
        "supervised.steps=3",
        "labels.count=20",
        "rounds.steps=3",
        "evaluation.examples=5",
        "evaluation.beyond=1",
    ),
)


@dataclass(frozen=True)
class Row:
    """One measurement."""

    name: str
    value: float
    unit: str
    peer: float | None = None
    """What the peer did, in the same unit."""
    ratio: float | None = None
    """How many times as fast as the peer."""
    note: str = ""
    reached: bool | None = None
    """Whether the aim is; None where there is none."""


class Bench:
    """Measures, and notes down what it has measured so far.

    Args:
        device: where to compute.
        scale: how much.
        out: folder of the results.
    """

    def __init__(self, device: torch.device, scale: Scale, out: Path) -> None:
        self.device, self.scale, self.out = device, scale, out
        self.begin = time.perf_counter()
        self.rows: list[Row] = []
        self.failed: dict[str, str] = {}
        self.products: dict[str, float] = {}
        self.source = SupervisedSource(Reserved(TASK, 0, 1000), ORACLE, scale.hardest)
        out.mkdir(parents=True, exist_ok=True)
        torch.zeros(1, device=device)  # a device that nothing was on yet has no memory statistics to set back

    def note(self, name: str, value: float, unit: str, peer: float | None = None, note: str = "") -> None:
        """Note a measurement down; of a time, less is faster."""
        ratio = None if peer is None else peer / value if unit.startswith(("ms", "s ")) or unit == "s" else value / peer
        aims = [aim for beginning, aim in AIMS.items() if name.startswith(beginning)]
        reached = ratio >= aims[0] if aims and ratio is not None else None
        if unit == "times one" and name.startswith("train tiny"):
            reached = value <= OVER_ONE
        self.rows.append(Row(name, value, unit, peer, ratio, note, reached))
        beside = "" if peer is None else f"   peer {peer:,.4g}   {ratio:.2f}x"
        print(f"{self.seconds:6.1f}s  {name:<34} {value:>12,.5g} {unit}{beside}   {note}", flush=True)
        self.write()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self.begin

    def write(self) -> None:
        """Write everything so far."""
        gpu = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "none"
        content = {
            "gpu": gpu,
            "torch": torch.__version__,
            "seconds": round(self.seconds, 1),
            "rows": [asdict(row) for row in self.rows],
            "failed": self.failed,
        }
        (self.out / "results.json").write_text(json.dumps(content, indent=1) + "\n")

    def section(self, name: str, work: Callable[[], None]) -> None:
        """Run a section; its failure is told and stops no other."""
        print(f"{self.seconds:6.1f}s  -- {name}", flush=True)
        try:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(self.device)
            work()
            if self.device.type == "cuda":
                peak = torch.cuda.max_memory_allocated(self.device) / 2**30
                self.note(f"peak memory, {name}", peak, "GiB")
        except Exception:
            self.failed[name] = traceback.format_exc()
            print(self.failed[name], flush=True)
            self.write()

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def timed(self, work: Callable[[], object], repeats: int = 1) -> float:
        """Return the seconds of a call, after one that is not counted."""
        work()
        self.wait()
        begin = time.perf_counter()
        for _ in range(repeats):
            work()
        self.wait()
        return (time.perf_counter() - begin) / repeats

    # What is measured

    def members(self, size: str, count: int = 1) -> list[Transformer]:
        """Return untrained members that hardly ever end an answer."""
        found = []
        for number in range(count):
            member = Transformer(self.scale.sizes[size], len(TASK.vocabulary), torch_generator(0, "weights", number))
            with torch.no_grad():
                member.lm_head.weight[EOS] = 0
            found.append(member.to(self.device))
        return found

    def mixtures(self, count: int) -> list[Mixture]:
        """Return batches of the easy range."""
        return [
            Mixture(0, ("gpu", number), (self.source, 1.0), [], None, self.scale.batch, 8, stock=self.scale.stock)
            for number in range(count)
        ]

    def product_rates(self) -> None:
        """How fast large products are: what a step is measured by."""
        size = self.scale.product
        for dtype in (torch.bfloat16, torch.float32):
            a, b = (torch.randn(size, size, device=self.device, dtype=dtype) for _ in range(2))
            seconds = self.timed(lambda a=a, b=b: a @ b, 10)  # type: ignore[misc]
            name = str(dtype).removeprefix("torch.")
            self.products[name] = 2 * size**3 / seconds / 1e12
            self.note(f"product, {name}", self.products[name], "TFLOP/s")

    def equality(self) -> None:
        """Stacked and captured against one by one: losses, gradients, answers; the same bits when repeated."""
        for precision in ("float32", "bfloat16"):
            members = self.members("tiny", 3)
            (crew,) = CudaEngine(members, precision).crews(self.mixtures(3), MUON)
            assert isinstance(crew, StackedCrew)
            crew.step(0, 0.0, 0.0)
            crew.gradients.compute()
            worst, loss = 0.0, 0.0
            for number, member in enumerate(self.members("tiny", 3)):
                gradients = Runner(member).gradients("float32")
                pieces = [gradients.of(group, 1.0) for group in _groups(crew, number)]
                right = gradients.summed([found for _, found in pieces])
                expected = sum(each for each, _ in pieces)
                loss = max(loss, abs(float(crew.update.sums[0, number]) / expected - 1))
                ours = crew.stack.of_member(crew.update.gradients, number)
                for (name, _), gradient in zip(member.named_parameters(), right, strict=True):
                    worst = max(worst, float((ours[name] - gradient).norm() / gradient.norm()))
            self.note(f"gradients apart, {precision}", worst, "relative, worst tensor", note=f"loss {loss:.2g}")
        prompts = self.prompts(self.scale.digits[0], min(512, self.scale.prompts))
        bounds = TASK.answer_bounds(prompts)
        plain = ReferenceEngine(self.members("tiny", 2)).answer(prompts, bounds)
        for precision in ("float32", "bfloat16"):
            stacked = CudaEngine(self.members("tiny", 2), precision).answer(prompts, bounds)
            same = np.mean([(a.tokens == b.tokens).all(axis=1).mean() for a, b in zip(stacked, plain, strict=True)])
            self.note(f"answers equal, {precision}", float(same), "share", note="the rest: near-ties of random weights")
        digests = []
        for _ in range(2):
            members = self.members("tiny", 2)
            self.steps_of(members, "bfloat16", MUON, TOLD)
            digests.append(float(sum(weight.detach().double().sum() for m in members for weight in m.parameters())))
        self.note("repeated to the same bits", float(digests[0] == digests[1]), "1 is yes")

    def steps_of(
        self, members: Sequence[Transformer], precision: str, optimiser: OptimiserSettings, steps: int
    ) -> float:
        """Return the seconds of a step, after the first TOLD."""
        marks: list[float] = []

        def on_step(step: Step) -> None:
            marks.append(time.perf_counter())

        engine = CudaEngine(members, precision)
        fit(engine, self.mixtures(len(members)), PhaseSettings(steps=steps), optimiser, 1.0, on_step)
        return (marks[-1] - marks[TOLD - 1]) / max(1, steps - TOLD)

    def training(self, size: str, precision: str) -> None:
        """A step of one member and of three, beside the Trainer's."""
        scale, name = self.scale, called(size, precision)
        tokenizer = peer.build_tokenizer(TASK.vocabulary)
        ours = self.steps_of(self.members(size), precision, ADAMW, scale.steps)
        shape = scale.sizes[size]
        tokens = np.mean([sum(g.tokens.size for g in self.mixtures(1)[0].batch(step, 0.5)) for step in range(2)])
        work = 6 * (4 * shape.width**2 + 3 * shape.width * shape.feed_forward) * shape.layers * tokens
        share = work / ours / 1e12 / self.products.get(precision, np.nan)
        note = f"{precision}, {share:.1%} of the product rate, {scale.batch / ours:,.0f} examples/s"
        self.note(f"train {name}, 1 member", ours * 1e3, "ms a step", note=note)
        three = self.steps_of(self.members(size, 3), precision, ADAMW, scale.steps)
        self.note(f"train {name}, 3 members", three * 1e3, "ms a step")
        self.note(f"train {name}, 3 members over 1", three / ours, "times one")
        muon = self.steps_of(self.members(size, 3), precision, MUON, 2 * TOLD)
        self.note(f"train {name}, 3 members, Muon", muon * 1e3, "ms a step")
        generator = np.random.default_rng(0)
        lengths = generator.integers(1, scale.hardest + 1, scale.batch * (scale.peer_steps + 5))
        make: Any = peer.EXAMPLES["reverse-addition"]
        examples: list[Any] = []
        for digits in range(1, scale.hardest + 1):
            examples += make(generator, tokenizer, digits, int((lengths == digits).sum()))
        shuffled = [examples[index] for index in generator.permutation(len(examples))]
        model = peer.build_model(shape, len(TASK.vocabulary))
        seconds = peer.train(
            model, tokenizer, shuffled, scale.batch, scale.peer_steps, bf16=precision == "bfloat16", skip=5
        )
        theirs = seconds / scale.peer_steps * 1e3
        self.note(f"train {name}, beside the Trainer", ours * 1e3, "ms a step", theirs)

    def prompts(self, digits: int, count: int) -> np.ndarray:
        """Return prompts of the hardest difficulty with so many digits."""
        difficulty = TASK.evaluated_difficulties(digits)[-1]
        return TASK.sample(numpy_generator(0, "gpu", digits), difficulty, count)

    def answering(self, size: str, precision: str) -> None:
        """Labels and evaluated prompts a second, beside ``generate``."""
        scale, name = self.scale, called(size, precision)
        tokenizer = peer.build_tokenizer(TASK.vocabulary)
        peer.GENERATE_ROWS = scale.prompts
        for digits in scale.digits:
            prompts = self.prompts(digits, scale.prompts)
            bounds, texts = TASK.answer_bounds(prompts), TASK.vocabulary.decode_prompts(prompts)
            member = self.members(size)[0]
            engine = CudaEngine([member], precision)
            difficulty = TASK.evaluated_difficulties(digits)[-1]
            label = self.timed(lambda: propose(engine, TASK, difficulty, prompts), 2)  # noqa: B023
            answers = ORACLE.solve(prompts)
            evaluate = self.timed(lambda: engine.matches([(prompts, answers)]), 3)  # noqa: B023
            model = peer.build_model(scale.sizes[size], len(TASK.vocabulary))
            named = {
                ("" if key.startswith("lm_head") else "model.") + key: weight
                for key, weight in member.state_dict().items()
            }
            model.load_state_dict(named)
            model.to(self.device, torch.bfloat16 if precision == "bfloat16" else torch.float32)
            begin = time.perf_counter()
            peer.generate(model, tokenizer, texts, int(bounds.max()))
            self.wait()
            theirs = len(texts) / (time.perf_counter() - begin)
            self.note(f"label {name}, {digits} digits", len(prompts) / label, "prompts/s", theirs, precision)
            self.note(f"evaluate {name}, {digits} digits", len(prompts) / evaluate, "prompts/s", theirs, precision)
            three = CudaEngine(self.members(size, 3), precision)
            seconds = self.timed(lambda: propose(three, TASK, difficulty, prompts))  # noqa: B023
            self.note(f"label {name}, {digits} digits, 3 members", len(prompts) / seconds, "prompts/s")

    def whole_round(self) -> None:
        """A round from its labels to its commit, beside the same made of the libraries; copy."""
        settings = load_recipe("copy-cpu", self.scale.round)
        folder = self.out / "round"
        shutil.rmtree(folder, ignore_errors=True)
        store = rounds.start(settings, folder, Quiet(), device=str(self.device))
        record = store.manifest.rounds[-1]
        tokenizer = peer.build_tokenizer(load_task("copy").vocabulary)
        model = peer.build_model(settings.model.size, len(load_task("copy").vocabulary)).to(self.device)
        hardest = settings.supervised.difficulty
        older: list[Any] = []
        begin = time.perf_counter()
        peer.one_round(
            model,
            tokenizer,
            hardest,
            older,
            hardest + 1,
            settings.labels.count,
            settings.rounds.steps,
            settings.evaluation.examples,
            settings.evaluation.beyond,
            settings.training.batch,
        )
        theirs = time.perf_counter() - begin
        phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in record.phase_seconds.items())
        self.note("a whole round, tiny, copy", record.seconds, "s", theirs, phases)

    def choices(self) -> None:
        """Two choices of the engine beside what they were chosen over, at ``tiny``; here that is the peer."""
        size, batch = self.scale.sizes["tiny"], self.scale.batch
        prompt, answer = 2 * self.scale.digits[1] + 3, self.scale.digits[1] + 2
        for dtype in (torch.float32, torch.bfloat16):
            name = str(dtype).removeprefix("torch.")

            def random(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
                return torch.randn(shape, device=self.device, dtype=dtype, requires_grad=True)

            for count in (1, 3):
                rows, matrix = random(count, batch * 32, size.width), random(count, 3 * size.width, size.width)

                def derive(found: Tensor, pair: tuple[Tensor, Tensor]) -> float:
                    given = torch.ones_like(found)
                    return self.timed(lambda: torch.autograd.grad(found, pair, given, retain_graph=True), 10)

                ours, other = (derive(times(rows, matrix), (rows, matrix)) for times in (SlicedProduct.apply, product))
                self.note(f"gradient in slices, {name}, {count} members", ours * 1e3, "ms", other * 1e3)
            shape = self.scale.prompts, size.heads, prompt + answer, size.width // size.heads
            keys, values = random(*shape), random(*shape)
            query = random(*shape[:2], 1, shape[-1])
            seen = (torch.arange(shape[2], device=self.device) < prompt)[None, None, None]
            with torch.no_grad():
                ours, other = (
                    self.timed(partial(attend, query, keys, values, seen), 10)
                    for attend in (see, F.scaled_dot_product_attention)
                )
            self.note(f"attention of one token, {name}", ours * 1e3, "ms", other * 1e3)

    def killed(self) -> None:
        """A run that is killed and resumed ends with the weights of one that is not."""
        digests = []
        for name, lives in (("undisturbed", 1), ("killed", 2)):
            folder = self.out / name
            shutil.rmtree(folder, ignore_errors=True)
            for life in range(1, lives + 1):
                end = ["--die"] if life < lives else []
                words = ["--device", str(self.device), "--out", str(folder), "--live", *end]
                ended = subprocess.run([sys.executable, "-m", "benchmarks.gpu", *words], check=False)
                if ended.returncode != (-signal.SIGKILL if end else 0):
                    raise RuntimeError(f"a run ended with {ended.returncode}")
            digests.append([record.weights_sha256 for record in Store(folder).manifest.rounds])
        self.note("killed and resumed to the same bits", float(digests[0] == digests[1]), "1 is yes")

    def climb(self, minutes: float) -> None:
        """How far a recipe comes in the time there is."""
        folder = self.out / "climb"
        shutil.rmtree(folder, ignore_errors=True)
        settings = load_recipe("reverse-addition-gpu", [f"budget.minutes={minutes}"])
        begin = time.perf_counter()
        store = rounds.start(settings, folder, Told(self), device=str(self.device))
        last = store.manifest.rounds[-1]
        self.note("climbed to", float(last.reach), "digits at 0.99", note=f"{time.perf_counter() - begin:.0f} s")


class Quiet:
    """A listener that shows nothing."""

    def phase(self, number: int, rounds: int, name: str, total: int) -> None:
        """See runs/listener.py."""

    def step(self, step: Step) -> None:
        """See runs/listener.py."""

    def advance(self, count: int) -> None:
        """See runs/listener.py."""

    def where(self, now: RunProgress) -> None:
        """See runs/listener.py."""

    def round(self, manifest: Manifest) -> None:
        """See runs/listener.py."""

    def note(self, text: str) -> None:
        """See runs/listener.py."""
        print(text, flush=True)


class Deadly(Quiet):
    """Kills the process at the end of a step."""

    def __init__(self) -> None:
        self.number = 0

    def phase(self, number: int, rounds: int, name: str, total: int) -> None:
        """See runs/listener.py."""
        self.number = number

    def step(self, step: Step) -> None:
        """See runs/listener.py."""
        if (self.number, step.step) == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)


class Told(Quiet):
    """Notes each round down."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def round(self, manifest: Manifest) -> None:
        """See runs/listener.py."""
        record = manifest.rounds[-1]
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in record.phase_seconds.items())
        note = f"kept {record.kept} of {record.proposed}, difficulty {record.difficulties[-1]}, {phases}"
        self.bench.note(f"round {record.round}", float(record.reach), "digits at 0.99", note=note)


def called(size: str, precision: str) -> str:
    """Return what rows call a size; its precision is said where it is not the usual one."""
    return size if (size == "tiny") == (precision == "float32") else f"{size} {precision}"


def live(folder: Path, device: str, listener: Quiet) -> None:
    """Begin a small run, or go on with it."""
    if (folder / "manifest.json").exists():
        rounds.resume(Store(folder), listener, device=device)
    else:
        settings = load_recipe("smoke", ["storage.checkpoint_minutes=0", "supervised.steps=60", "supervised.decay=30"])
        rounds.start(settings, folder, listener, device=device)


def _groups(crew: StackedCrew, number: int) -> list[Group]:
    """Return the batch of one member, prompts of one length together."""
    groups = []
    for tokens, prompts in zip(crew.gradients.tokens, crew.gradients.prompts, strict=True):
        rows, lengths = tokens[number].cpu().numpy(), prompts[number].cpu().numpy()
        groups += [Group(rows[lengths == length], int(length)) for length in np.unique(lengths)]
    return groups


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="toy sizes, for tests")
    parser.add_argument("--only", nargs="+", help="sections whose names begin so; default: all")
    parser.add_argument("--climb", type=float, help="minutes of the recipe reverse-addition-gpu, at the end")
    parser.add_argument("--live", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--die", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.live:
        live(given.out, given.device, Deadly() if given.die else Quiet())
        return
    bench = Bench(find_device(given.device), QUICK if given.quick else WHOLE, given.out)
    sections: dict[str, Callable[[], None]] = {
        "product": bench.product_rates,
        "equality": bench.equality,
        "choices": bench.choices,
        "round": bench.whole_round,
        "killed": bench.killed,
    }
    for case in CASES:
        sections[f"train {called(*case)}"] = partial(bench.training, *case)
        sections[f"label {called(*case)}"] = partial(bench.answering, *case)
    for name, work in sections.items():
        if given.only is None or name.startswith(tuple(given.only)):
            bench.section(name, work)
    if given.climb:
        bench.section("climb", lambda: bench.climb(given.climb))
    for row in bench.rows:
        if row.reached is not None:
            what = f"{row.ratio:.2f} times the peer" if row.ratio is not None else f"{row.value:.2f} {row.unit}"
            print(f"{'reached   ' if row.reached else 'fell short'}  {row.name:<40} {what}")
    print(
        f"{bench.seconds:6.1f}s  written: {bench.out / 'results.json'}; failed: {', '.join(bench.failed) or 'nothing'}"
    )
    sys.exit(1 if bench.failed else 0)


if __name__ == "__main__":
    main()
