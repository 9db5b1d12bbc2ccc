"""A recipe run again and again for hours, killed and interrupted at random moments and resumed each time (Linux).

    python -m studies.soak copy-cpu --minutes 120 --seed 0 --out runs/soak/soak.json

Every run has the same settings, so all must end with the same digests; the first is not disturbed. Each further one is
killed (SIGKILL) or interrupted (SIGTERM) at moments drawn from the seed. Memory is that of all processes of a run,
without the files they map (the libraries, which other programs share); it must not grow from run to run.
Each run that has ended is a line of FILE.jsonl, so that a soak which is stopped itself loses only the run it is in; the
same command goes on. A run's directory goes once its line is written.
"""

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from easy2hard.runs.manifest import RunDirectory

KILLS = 4
"""Most disturbances of one run; then it is left to end."""
LONGEST = 0.6
"""Greatest time until a disturbance, as a share of the undisturbed run's."""
INTERRUPTS = 0.3
"""Share of the disturbances that are a SIGTERM, which lets the run finish its step."""
EVERY = 0.5
"""Seconds between two looks at a run."""


def main() -> None:
    """Run until the time is over, and say what all runs came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--minutes", type=float, default=120, help="no run begins after so many minutes of runs")
    parser.add_argument("--seed", type=int, default=0, help="of the disturbances; the runs have the recipe's seed")
    parser.add_argument("--set", nargs="*", default=[], dest="more", help="settings for every run")
    parser.add_argument("--out", type=Path, default=Path("runs/soak/soak.json"))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    lines = options.out.with_suffix(".jsonl")
    lines.parent.mkdir(parents=True, exist_ok=True)
    runs = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    while not runs or sum(run["seconds"] for run in runs) < 60 * options.minutes:
        folder = options.out.with_suffix("") / f"run-{len(runs):03d}"
        shutil.rmtree(folder, ignore_errors=True)  # of a soak that was stopped
        folder.mkdir(parents=True)
        longest = LONGEST * runs[0]["seconds"] if runs else None
        chance = random.Random(f"{options.seed} {len(runs)}")
        runs.append(disturbed(folder / "run", options.recipe, options.more, chance, longest))
        with lines.open("a") as file:
            file.write(json.dumps(runs[-1]) + "\n")
        if runs[-1]["digest"] == runs[0]["digest"]:
            shutil.rmtree(folder)
        print(f"run {len(runs) - 1}: {line_of(runs[-1])}", flush=True)
    found = summary(runs)
    options.out.write_text(json.dumps({"recipe": options.recipe, "set": options.more, **found}, indent=1) + "\n")
    for name, value in found.items():
        print(f"{name}: {value}")
    sys.exit(int(found["digests"] != 1 or found["left_over"] > 0))


def disturbed(
    out: Path, recipe: str, more: Sequence[str], chance: random.Random, longest: float | None
) -> dict[str, Any]:
    """Bring one run to its end, with disturbances where ``longest`` says after how many seconds at most."""
    settings = [part for each in more for part in ("--set", each)]
    kills: list[Any] = []
    memory: dict[int, float] = {}
    begin, left_over = time.monotonic(), 0
    while True:
        begun = (out / "manifest.json").exists()  # killed early there is no run yet
        arguments = ["resume", str(out)] if begun else ["run", recipe, "--out", str(out), *settings]
        lives = chance.uniform(0, longest) if longest and len(kills) < KILLS else float("inf")
        how = signal.SIGTERM if chance.random() < INTERRUPTS else signal.SIGKILL
        code, left = live(arguments, out, lives, how, memory)
        left_over += left
        if code == 0:
            break
        if lives == float("inf") or code not in (-how, 130):
            raise SystemExit(f"{out}: exit code {code}; the run is left as it is")
        where = RunDirectory(out).manifest.status if (out / "manifest.json").exists() else "before its first file"
        kills.append({"signal": how.name, "after": round(lives, 1), "rounds": committed(out), "status": where})
    return {
        "digest": digest(out),
        "seconds": round(time.monotonic() - begin, 1),
        "kills": kills,
        "peak_mib": round(max(memory.values()), 1),
        "peak_mib_by_round": {str(number): round(value, 1) for number, value in sorted(memory.items())},
        "bytes_on_disk": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        "left_over": left_over + len(list(out.rglob("*.tmp"))) + len(list((out / "checkpoint").iterdir())),
    }


def live(
    arguments: Sequence[str], out: Path, lives: float, how: signal.Signals, memory: dict[int, float]
) -> tuple[int, int]:
    """Run the command line for so many seconds; return its exit code and how many of its processes outlived it.

    ``memory`` gets the peak in MiB of all its processes, by the round they are in.
    """
    process = subprocess.Popen([sys.executable, "-m", "easy2hard", *arguments], stdout=subprocess.DEVNULL)
    begin = time.monotonic()
    family: list[int] = []
    while process.poll() is None:
        family = [process.pid, *descendants(process.pid)]
        number = committed(out)
        memory[number] = max(memory.get(number, 0.0), resident(family))
        if time.monotonic() - begin >= lives:
            process.send_signal(how)
            break
        time.sleep(EVERY)
    code = process.wait()
    for _ in range(20):  # a worker is told of its parent's death; it takes a moment
        left = [pid for pid in family if alive(pid)]
        if not left:
            break
        time.sleep(EVERY)
    return code, len(left)


def alive(pid: int) -> bool:
    """Return whether a process still works; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def committed(out: Path) -> int:
    """Return how many rounds have their weights on disk."""
    return len(list((out / "weights").glob("*.safetensors")))


def digest(out: Path) -> str:
    """Return one digest of all that a run's settings decide: weights, ledgers, losses and metrics of every round."""
    times = {"seconds", "phase_seconds", "member_seconds"}
    records = [record.model_dump(mode="json", exclude=times) for record in RunDirectory(out).manifest.rounds]
    return hashlib.sha256(json.dumps(records, sort_keys=True).encode()).hexdigest()


def resident(processes: Iterable[int]) -> float:
    """Return the MiB of processes, without files; what they share counts once."""
    total = 0
    for pid in processes:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return total / 1024


def descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and those that they started."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            own = [int(child) for child in children.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in own:
            found += [child, *descendants(child)]
    return found


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the soak came to: digests, disturbances, and how memory goes from run to run."""
    peaks = [run["peak_mib"] for run in runs]
    signals = [kill["signal"] for run in runs for kill in run["kills"]]
    return {
        "runs": len(runs),
        "minutes": round(sum(run["seconds"] for run in runs) / 60, 1),
        "digests": len({run["digest"] for run in runs}),
        "kills": signals.count("SIGKILL"),
        "interrupts": signals.count("SIGTERM"),
        "left_over": sum(run["left_over"] for run in runs),
        "bytes_on_disk": sorted({run["bytes_on_disk"] for run in runs}),
        "peak_mib": peaks,
        "mib_per_run": slope(peaks),
        "mib_per_round": slope(list(runs[0]["peak_mib_by_round"].values())[1:]),
    }


def slope(values: Sequence[float]) -> float:
    """Return the growth from one value to the next, by least squares."""
    return round(float(np.polyfit(range(len(values)), values, 1)[0]), 3) if len(values) > 1 else 0.0


def line_of(run: dict[str, Any]) -> str:
    """Return a run in a line."""
    signals = ", ".join(f"{kill['signal']} after {kill['after']} s" for kill in run["kills"]) or "undisturbed"
    return f"{run['digest'][:16]}, {run['seconds']:.0f} s, peak {run['peak_mib']:.0f} MiB, {signals}"


if __name__ == "__main__":
    main()
