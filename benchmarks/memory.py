"""Peak memory of a run to 200 digits with 50,000 labels a round, at ``small``, all its processes together (Linux).

    python -m benchmarks.memory [--rounds 3]

What is measured is memory, so the model is hardly trained: supervised on 1 to 197 digits for two steps, then rounds of
50,000 labels at 198, 199 and 200 digits that keep every label. Answers of such a model end early or run to their bound.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

LIMIT = 2048  # MiB


def main() -> None:
    """Run it in a process of its own and print its peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--labels", type=int, default=50_000)
    options = parser.parse_args()
    settings = {
        "model.preset": "small",
        "model.members": 1,
        "supervised.difficulty": 200 - options.rounds,
        "supervised.steps": 2,
        "supervised.warmup": 0,
        "supervised.decay": 0,
        "rounds.count": options.rounds,
        "schedule.stride": 1,
        "labels.count": options.labels,
        "rounds.steps": 10,
        "rounds.warmup": 0,
        "rounds.decay": 0,
        "watch.enabled": "false",
        "labels.filters": '[{name="confidence",threshold=0.0}]',
        "evaluation.examples": 1,
        "evaluation.beyond": 0,
    }
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    with TemporaryDirectory(dir=".") as folder:
        command = [sys.executable, "-c", "from easy2hard.cli import main; main()", "run", "copy-cpu"]
        begin = time.perf_counter()
        peak = peak_memory([*command, "--out", str(Path(folder) / "run"), *overrides])
    seconds = time.perf_counter() - begin
    print(f"peak {peak:.0f} MiB of {LIMIT}: {'within' if peak < LIMIT else 'OVER'} the limit ({seconds:.0f} s)")


def peak_memory(command: list[str]) -> float:
    """Run a command and return the peak of its memory in MiB, that of all processes it starts included."""
    process = subprocess.Popen(command, start_new_session=True)
    peak = 0.0
    try:
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.1)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        sys.exit(process.returncode)
    return peak


def resident(session: int) -> float:
    """Return the MiB of all processes of a session; what they share counts once."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                lines = (folder / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (ProcessLookupError, FileNotFoundError):  # it ended meanwhile
            continue
    return total / 1024


if __name__ == "__main__":
    main()
