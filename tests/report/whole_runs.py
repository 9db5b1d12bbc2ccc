"""Whole run directories without training: what a report reads, written plainly."""

import csv
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from easy2hard.improvement.watch import Signals
from easy2hard.runs.manifest import Manifest, RoundRecord, RunDirectory, manifest_text
from easy2hard.runs.records import FilterRecord
from easy2hard.settings.recipes import parse_settings
from easy2hard.tasks.base import parse_difficulty

Label = dict[str, Any]


def label(prompt: str, answer: str, why: str = "kept", **more: Any) -> Label:
    return {
        "round": 1,
        "difficulty": 4,
        "prompt": prompt,
        "answer": answer,
        "finished": why != "unfinished",
        "kept": why == "kept",
        "why": why,
        "votes": 2,
        "members": 2,
        "confidence": 0.95,
        **more,
    }


def copy_labels(number: int, difficulty: int) -> list[Label]:
    """Return ten labels: six right of which one is dropped, three wrong of which two are kept, one without an end."""
    prompts = [f"{10 ** (difficulty - 1) + 7 * i + number}=" for i in range(10)]
    labels = [label(prompt, prompt[:-1]) for prompt in prompts[:5]]
    labels.append(label(prompts[5], prompts[5][:-1], "vote", confidence=0.4))
    labels.append(label(prompts[6], "9" + prompts[6][1:-1]))
    labels.append(label(prompts[7], prompts[7][:-2]))
    labels.append(label(prompts[8], "9" + prompts[8][1:-1], "confidence", confidence=0.2))
    labels.append(label(prompts[9], prompts[9][:-1] * 2, "unfinished"))
    return [{**each, "round": number, "difficulty": difficulty} for each in labels]


def full_run(
    path: Path,
    rounds: int = 3,
    seed: int = 0,
    task: str = "copy",
    labels: Callable[[int, int], Sequence[Label]] = copy_labels,
    accuracy: Callable[[int], dict[str, float]] | None = None,
    baseline: dict[str, float] | None = None,
    status: str = "finished",
    **changes: Any,
) -> RunDirectory:
    """Write a run with training logs and ledgers; the weights are missing."""
    settings = parse_settings(
        {
            "seed": seed,
            "task": {"name": task, "options": changes.pop("options", {})},
            "model": {"members": 2},
            "supervised": {"difficulty": 3, "steps": 50},
            "rounds": {"count": max(rounds - 1, 0), "steps": 20, **changes},
            "labels": {"count": 10},
        }
    )
    for folder in ("training", "ledger", "weights"):
        (path / folder).mkdir(parents=True)
    run = RunDirectory(path, complete=False)
    records = []
    for number in range(rounds):
        steps = 20 if number else 50
        with run.training_path(number).open("w", newline="") as file:
            rows = [(i, 2.0 / (1 + i + 50 * number), min(1.0, (steps - i) / 10), 900) for i in range(steps)]
            csv.writer(file).writerows([("step", "loss", "learning_rate", "tokens"), *rows])
        files = {f"training/round-{number:03d}.csv"}
        given = labels(number, 3 + number) if number else []
        if number:
            pq.write_table(pa.Table.from_pylist(list(given)), run.ledger_path(number))
            files.add(f"ledger/round-{number:03d}.parquet")
        kept = sum(each["kept"] for each in given)
        ended = sum(each["finished"] for each in given)
        voted = ended - sum(each["why"] == "vote" for each in given)
        filters = [
            FilterRecord(name="unfinished", proposed=len(given), kept=ended),
            FilterRecord(name="vote", settings={"threshold": 1.0}, proposed=ended, kept=voted),
            FilterRecord(name="confidence", settings={"keep": 0.9}, proposed=voted, kept=kept),
        ]
        of = [parse_difficulty(str(each)) for each in dict.fromkeys(each["difficulty"] for each in given)]
        scores = {str(d): 1.0 if d <= 3 + number + seed else 0.5 / d for d in range(1, 6 + number)}
        records.append(
            RoundRecord(
                round=number,
                difficulties=of or [1, 2, 3],
                proposed=len(given),
                kept=kept,
                signals=Signals(0.9, 0.7, 0.1, 0.8) if number else None,
                filters=filters if number else [],
                steps=steps,
                tokens=900 * steps,
                seconds=3.5,
                phase_seconds={"label": 1.0, "train": 2.0, "evaluate": 0.5} if number else {"train": 3.5},
                loss=0.1,
                examples=1000,
                accuracy=accuracy(number) if accuracy else scores,
                baseline=baseline or {},
                weights_sha256="0" * 64,
                files={name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in files},
                pruned=True,
            )
        )
    text = settings.to_toml()
    manifest = Manifest(
        settings_sha256=hashlib.sha256(text.encode()).hexdigest(),
        task=task,
        seed=seed,
        torch="2",
        threads=1,
        device="cpu",
        status=status,
        rounds=records,
    )
    (path / "settings.toml").write_text(text)
    (path / "manifest.json").write_text(manifest_text(manifest))
    return RunDirectory(path)
