"""Minutes until copy reaches 20 digits at 0.99 from 10 supervised: ours, and the peer run as the same loop.

    python -m benchmarks.goal [--side ours|peer|both]

Ours is the recipe ``copy-cpu``. The peer is one model of transformers without a filter: AdamW, as many training steps
as our three members take together, the same labels, difficulties and batch. After every round both are measured at the
frontier on the same number of prompts; the clock stands still meanwhile. Appends to ``benchmarks/goal.json``.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import peer
from benchmarks.bench import Silent
from easy2hard.runs import rounds
from easy2hard.runs.manifest import Manifest
from easy2hard.settings.model import PRESETS
from easy2hard.settings.recipes import load_recipe
from easy2hard.tasks.registry import load_task

RESULTS = Path(__file__).parent / "goal.json"
DIGITS, EXAMPLES, GOAL = 20, 1000, 0.99


class _Watch(Silent):
    """Notes when each round was committed."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.rounds: list[dict[str, Any]] = []

    def round(self, manifest: Manifest) -> None:
        """Note a round."""
        record = manifest.rounds[-1]
        minutes = (time.perf_counter() - self.begin) / 60
        score = record.accuracy.get(str(DIGITS))
        self.rounds.append({"trained_to": manifest.frontier, "minutes": round(minutes, 2), f"at_{DIGITS}": score})
        print(self.rounds[-1], flush=True)


def ours() -> list[dict[str, Any]]:
    """Return our rounds; the members' mean at 20 digits is the run's own evaluation."""
    watch = _Watch()
    with TemporaryDirectory() as folder:
        rounds.start(load_recipe("copy-cpu", [f"evaluation.examples={EXAMPLES}"]), Path(folder) / "run", watch)
    return watch.rounds


def theirs() -> list[dict[str, Any]]:
    """Return the peer's rounds."""
    settings = load_recipe("copy-cpu")
    members, batch = settings.model.members, settings.training.batch
    vocabulary = load_task("copy").vocabulary
    tokenizer = peer.build_tokenizer(vocabulary)
    model = peer.build_model(PRESETS[settings.model.preset], len(vocabulary))
    d0, steps = settings.supervised.difficulty, settings.supervised.steps * members
    result: list[dict[str, Any]] = []
    spent = 0.0

    def note(frontier: int) -> None:
        scores = {
            f"at_{d}": peer.evaluate(model, tokenizer, peer.copy_prompts(3000 + d, d, EXAMPLES), d + 1)
            for d in sorted({frontier, DIGITS})
        }
        result.append({"trained_to": frontier, "minutes": round(spent / 60, 2), **scores})
        print(result[-1], flush=True)

    begin = time.perf_counter()
    examples = peer.copy_examples(0, tokenizer, range(1, d0 + 1), batch * steps)
    peer.train(model, tokenizer, examples, batch, steps, warmup=steps // 20, decay=steps // 2)
    spent += time.perf_counter() - begin
    note(d0)
    older: list[list[peer.Example]] = []
    step, phase = settings.schedule.stride, settings.rounds
    for number in range(1, phase.count + 1):
        begin = time.perf_counter()
        peer.one_round(
            model,
            tokenizer,
            d0,
            older,
            d0 + number * step,
            settings.labels.count,
            phase.steps * members,
            settings.evaluation.examples,
            settings.evaluation.beyond,
            batch,
            decay=phase.decay * members,
            step=step,
        )
        spent += time.perf_counter() - begin
        note(d0 + number * step)
    return result


def main() -> None:
    """Run the sides asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", choices=["ours", "peer", "both"], default="both")
    side = parser.parse_args().side
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, run in (("ours", ours), ("peer", theirs)):
        if side in (name, "both"):
            results[name] = run()
            arrived = [r for r in results[name] if (r.get(f"at_{DIGITS}") or 0) >= GOAL]
            print(f"{name}: " + (f"{arrived[0]['minutes']} minutes" if arrived else "never arrives"))
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
