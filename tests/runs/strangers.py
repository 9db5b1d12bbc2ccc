"""Run directories as a stranger would plant them: each function of ``PLANTED`` spoils a copy of an honest run."""

import hashlib
import json
import os
import pickle
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from easy2hard.runs.manifest import manifest_digest

PLANTED: dict[str, Callable[[Path, Path], None]] = {}
"""By what was done. Each takes the copy and a folder outside of it, whose file ``precious`` must stay as it is."""


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def planted(function: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    PLANTED[function.__name__] = function
    return function


def reseal(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest and give it the digest that belongs to the change."""
    path = run / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    content.pop("sha256", None)
    path.write_text(json.dumps({**content, "sha256": manifest_digest(content)}))


def listed_anew(run: Path, name: str) -> None:
    """Give a file of the last round the digest that it has now."""
    digest = digest_of(run / name)
    reseal(run, lambda content: content["rounds"][-1]["files"].update({name: digest}))


def linked(run: Path, outside: Path, name: str) -> None:
    """Move a file or a folder of the run outside and leave a link."""
    shutil.move(run / name, outside / Path(name).name)
    (run / name).symlink_to(outside / Path(name).name)


def piped(run: Path, name: str) -> None:
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)


@planted
def outputs_are_links(run: Path, outside: Path) -> None:
    for name in ("report.html", "overview.pdf", "outcome.json", "report.html.tmp", "overview.pdf.tmp"):
        (run / name).symlink_to(outside / "precious")


@planted
def temporaries_are_links(run: Path, outside: Path) -> None:
    for name in ("report.html.tmp", "overview.pdf.tmp", "manifest.json.tmp", "progress.json.tmp"):
        (run / name).symlink_to(outside / "precious")


@planted
def outputs_are_pipes(run: Path, outside: Path) -> None:
    for name in ("report.html", "overview.pdf", "report.html.tmp"):
        piped(run, name)


@planted
def the_weights_are_a_linked_folder(run: Path, outside: Path) -> None:
    linked(run, outside, "weights")


@planted
def the_checkpoints_are_a_linked_folder(run: Path, outside: Path) -> None:
    (run / "checkpoint").rmdir()
    (run / "checkpoint").symlink_to(outside)


@planted
def a_ledger_is_a_link(run: Path, outside: Path) -> None:
    linked(run, outside, "ledger/round-001.parquet")


@planted
def the_settings_are_a_link(run: Path, outside: Path) -> None:
    linked(run, outside, "settings.toml")


@planted
def the_manifest_is_a_link(run: Path, outside: Path) -> None:
    linked(run, outside, "manifest.json")


def _pipe(name: str) -> None:
    PLANTED[f"a_pipe_for_{name}"] = lambda run, outside: piped(run, name)


for each in (
    "lock",
    "manifest.json",
    "settings.toml",
    "progress.json",
    "ledger/round-002.parquet",
    "weights/round-002.safetensors",
    "training/round-001.csv",
    "checkpoint/round-003.json",
    "evaluations/5-seed-0.json",
):
    _pipe(each)


@planted
def a_socket_for_the_manifest(run: Path, outside: Path) -> None:
    (run / "manifest.json").unlink()
    here = Path.cwd()
    os.chdir(run)  # the path of a socket has to be short
    socket.socket(socket.AF_UNIX).bind("manifest.json")
    os.chdir(here)


@planted
def the_evaluations_are_a_linked_folder(run: Path, outside: Path) -> None:
    shutil.rmtree(run / "evaluations", ignore_errors=True)
    (run / "evaluations").symlink_to(outside)


@planted
def an_evaluation_is_a_link(run: Path, outside: Path) -> None:
    piped(run, name := "evaluations/5-seed-0.json")
    (run / name).unlink()
    (run / name).symlink_to(outside / "precious")


@planted
def an_evaluation_has_bad_scores(run: Path, outside: Path) -> None:
    own = json.loads((run / "manifest.json").read_text())["rounds"][-1]
    scores = {"accuracy": {**own["accuracy"], "9" * 19: 1e300}, "examples": 2**60, "baseline": {}}
    content = {**scores, "round": 2, "weights_sha256": own["weights_sha256"], "seed": 0, "voted": {}, "hard_split": {}}
    (run / "evaluations").mkdir(exist_ok=True)
    text = json.dumps({**content, "sha256": manifest_digest(content)})
    (run / "evaluations/9-seed-0.json").write_text(text)


@planted
def a_difficulty_is_none(run: Path, outside: Path) -> None:
    reseal(run, lambda content: content["rounds"][1]["accuracy"].update(abc=0.5))


@planted
def a_metric_is_no_number(run: Path, outside: Path) -> None:
    reseal(run, lambda content: content["rounds"][2]["accuracy"].update({"4": float("nan"), "5": float("inf")}))


@planted
def the_loss_is_infinite(run: Path, outside: Path) -> None:
    reseal(run, lambda content: content["rounds"][0].update(loss=float("inf"), seconds=float("nan")))


@planted
def a_round_is_beyond_all_numbers(run: Path, outside: Path) -> None:
    reseal(run, lambda content: content["rounds"][2].update(round=10**30, difficulties=[10**30], proposed=10**40))


@planted
def a_round_has_no_difficulty(run: Path, outside: Path) -> None:
    reseal(run, lambda content: content["rounds"][2].update(difficulties=[]))


@planted
def files_have_names_that_lead_out(run: Path, outside: Path) -> None:
    reseal(run, lambda content: content["rounds"][1]["files"].update({"../outside/precious": "0" * 64}))


@planted
def names_have_script_and_control_characters(run: Path, outside: Path) -> None:
    evil = "<script>alert(1)</script>\x1b[2J\x1b]0;owned\x07"
    reseal(run, lambda content: content.update(status=f"stopped: {evil}", torch=evil, filters=[evil]))
    reseal(run, lambda content: content["rounds"][1].update(watch=None, top_up={"4": evil}))
    reseal(run, lambda content: content.update(supervised_signals=[evil], relations=[evil]))


@planted
def the_manifest_is_nested_without_end(run: Path, outside: Path) -> None:
    (run / "manifest.json").write_text('{"a":' * 100_000)


@planted
def the_manifest_is_a_terabyte(run: Path, outside: Path) -> None:
    os.truncate(run / "manifest.json", 1 << 40)


@planted
def the_settings_are_a_terabyte(run: Path, outside: Path) -> None:
    os.truncate(run / "settings.toml", 1 << 40)


@planted
def a_training_log_is_a_terabyte(run: Path, outside: Path) -> None:
    os.truncate(run / "training/round-001.csv", 1 << 40)


@planted
def the_weights_are_a_terabyte(run: Path, outside: Path) -> None:
    os.truncate(run / "weights/round-002.safetensors", 1 << 40)


@planted
def the_weights_are_code(run: Path, outside: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"echo harmed > {outside}/precious",)

    (run / "weights/round-002.safetensors").write_bytes(pickle.dumps(Evil()))
    listed_anew(run, "weights/round-002.safetensors")


@planted
def the_weights_declare_more_than_memory(run: Path, outside: Path) -> None:
    header = json.dumps({"0.a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (run / "weights/round-002.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    listed_anew(run, "weights/round-002.safetensors")


@planted
def the_settings_declare_more_than_memory(run: Path, outside: Path) -> None:
    path = run / "settings.toml"
    text = path.read_text().replace("width = 32", "width = 65536").replace("layers = 2", "layers = 1000")
    path.write_text(text.replace("feed_forward = 64", "feed_forward = 1000000"))
    digest = digest_of(path)
    reseal(run, lambda content: content.update(settings_sha256=digest))


def _ledger(run: Path, rows: int, prompt: str = "12345=", groups: int = 1) -> None:
    """Write a ledger of equal rows, a few bytes on the disk however many there are."""

    def same(value: str) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int8)), [value])

    columns = {
        "round": pa.array(np.full(rows, 2, np.int32)),
        "difficulty": pa.array(np.full(rows, 5, np.int32)),
        "prompt": same(prompt),
        "answer": same("12345"),
        "finished": pa.array(np.ones(rows, np.bool_)),
        "kept": pa.array(np.ones(rows, np.bool_)),
        "why": same("kept"),
        "votes": pa.array(np.full(rows, 2, np.int32)),
        "members": pa.array(np.full(rows, 2, np.int32)),
        "confidence": pa.array(np.ones(rows, np.float32)),
    }
    table = pa.table(columns)
    with pq.ParquetWriter(run / "ledger/round-002.parquet", table.schema, compression="zstd") as writer:
        for _ in range(groups):
            writer.write_table(table, row_group_size=rows)
    listed_anew(run, "ledger/round-002.parquet")


@planted
def a_ledger_declares_more_rows_than_its_record(run: Path, outside: Path) -> None:
    _ledger(run, 4_000_000, groups=10)


@planted
def a_ledger_and_its_record_declare_many_rows(run: Path, outside: Path) -> None:
    _ledger(run, 4_000_000, groups=10)
    reseal(run, lambda content: content["rounds"][2].update(proposed=40_000_000, kept=40_000_000))


@planted
def a_ledger_repeats_a_long_text(run: Path, outside: Path) -> None:
    """Sixteen million characters in each of a hundred rows, written once."""
    _ledger(run, 100, prompt="1" * (1 << 24) + "=")


@planted
def a_ledger_is_a_compressed_bomb(run: Path, outside: Path) -> None:
    prompts = pa.array(["1" * 10_000_000] * 30)
    table = pa.table({name: [0] * 30 for name in ("difficulty", "finished", "kept", "why", "votes", "members")})
    table = table.append_column("prompt", prompts).append_column("answer", prompts)
    table = table.append_column("confidence", pa.array([1.0] * 30)).append_column("round", pa.array([2] * 30))
    pq.write_table(table, run / "ledger/round-002.parquet", compression="zstd", use_dictionary=False)
    listed_anew(run, "ledger/round-002.parquet")


@planted
def a_ledger_has_columns_of_other_types(run: Path, outside: Path) -> None:
    table = pa.table({"difficulty": [None, None], "prompt": [1, 2], "answer": [[1], [2]], "kept": ["yes", "no"]})
    pq.write_table(table, run / "ledger/round-002.parquet")
    listed_anew(run, "ledger/round-002.parquet")


@planted
def a_plugin_lies_beside_the_run(run: Path, outside: Path) -> None:
    """Named so that it is found from where the user happens to be."""
    evil = Path("evil.py")
    evil.write_text(f"open({str(outside / 'precious')!r}, 'w').write('harmed')\n")
    origin = {"kind": "task", "name": "stranger", "source": "evil.py", "file": "evil.py", "sha256": digest_of(evil)}
    reseal(run, lambda content: content.update(plugins=[origin]))
