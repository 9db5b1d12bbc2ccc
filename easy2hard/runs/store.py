"""Writing a run directory: atomic files, the lock, weights.

A round's files are written first, each to a temporary name, flushed and renamed; the rename of the manifest commits
the round. Files of a round that the manifest does not list are leftovers and are written again.
"""

import csv
import errno
import fcntl
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from easy2hard.engines.choice import cores
from easy2hard.errors import UserError
from easy2hard.files import copy_inside, open_inside, open_lock, read_inside, write_file
from easy2hard.runs.manifest import LAYOUT, Manifest, RunDirectory, environment, file_digest, manifest_text
from easy2hard.runs.origins import origins_of
from easy2hard.runs.records import LabelCheckpoint, RestartsCheckpoint
from easy2hard.settings.recipes import SETTINGS_BYTES
from easy2hard.settings.renamed import SINCE
from easy2hard.settings.schema import Settings

HEADER_BYTES = 1 << 22
"""Of a file of weights, besides the numbers: their names and shapes."""
RUN_FOLDERS = ("weights", "ledger", "training", "checkpoint")


class Store(RunDirectory):
    """A run directory that is written to."""

    @classmethod
    def create(cls, path: Path, settings: Settings, device: torch.device, blindfold: bool = False) -> "Store":
        """Make a new run directory.

        Raises:
            UserError: ``path`` exists and is not an empty directory.
        """
        _refuse_used(path)
        manifest = Manifest(
            task=settings.task.name,
            seed=settings.seed,
            torch=torch.__version__,
            threads=cores(),
            device=str(device),
            environment=environment(settings.task.name),
            blindfold=blindfold,
            supervised_signals=settings.supervised_signals,
            relations=settings.relations,
            filters=[each.words() for each in settings.labels.filters],
            plugins=origins_of(settings),
        )
        with new_folder(path, RUN_FOLDERS) as begun:
            _write_settings(begun, settings, manifest)
        return cls(path)

    def refuse_older(self) -> None:
        """Refuse to go on with a run of an older version: half of it would follow one version, half another.

        Raises:
            UserError: an older version began it.
        """
        layout = self.manifest.format
        if layout != LAYOUT:
            raise UserError(
                f"{self.path}: begun before version {SINCE} (layout {layout}, now {LAYOUT}): report, eval, audit and "
                "export read it, but it cannot be resumed; finish it with the version that began it, or begin a new run"
            )

    def branch(self, path: Path, number: int, settings: Settings) -> "Store":
        """Make a new run that goes on from round ``number`` of this one with other settings.

        Raises:
            UserError: ``path`` is in use, the round is not committed, or another version began the run.
        """
        self.refuse_older()
        kept = [record for record in self.manifest.rounds if record.round <= number]
        if not 0 <= number == len(kept) - 1:
            last = len(self.manifest.rounds) - 1
            raise UserError(f"{self.path}: round {number} is not committed (the last one is {last})")
        if kept[-1].pruned:
            raise UserError(f"{self.path}: the weights of round {number} are gone (storage.keep_weights)")
        _refuse_used(path)
        manifest = self.manifest.model_copy(
            update={
                "status": "stopped: branched",
                "rounds": kept,
                "supervised_signals": settings.supervised_signals,
                "relations": settings.relations,
                "filters": [each.words() for each in settings.labels.filters],
                "plugins": origins_of(settings, self.manifest.plugins),
            }
        )
        with new_folder(path, RUN_FOLDERS) as begun:
            for record in kept:
                for source in self.files(record.round, bool(record.relabelled), record.pruned):
                    copy_inside(source, self.path, begun / source.parent.name / source.name)
            _write_settings(begun, settings, manifest)
        return type(self)(path)

    def replace_settings(self, settings: Settings) -> None:
        """Put settings in the place of those that are there, with the lock held.

        The manifest commits them; where a process dies before they have their name, :meth:`settle_settings` gives it.
        """
        content = settings.to_toml().encode()
        write_file(self._coming_settings, content, self.path)
        self.save(self.manifest.model_copy(update={"settings_sha256": hashlib.sha256(content).hexdigest()}))
        self._settle()

    def settle_settings(self) -> None:
        """Give settings that the manifest has committed their name, where a process died before it could.

        Raises:
            UserError: another process is giving it right now.
        """
        if self._coming_settings.exists():
            with self.lock():
                self._settle()

    def _settle(self) -> None:
        coming = self._coming_settings
        if coming.exists() and file_digest(coming, self.path) == self.manifest.settings_sha256:
            write_file(self.path / "settings.toml", read_inside(coming, self.path, SETTINGS_BYTES), self.path)
        coming.unlink(missing_ok=True)

    @property
    def _coming_settings(self) -> Path:
        return self.path / "settings.toml.new"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing; the system lets go of the lock however the process ends.

        Raises:
            UserError: another process holds it, or the run is read-only; or the lock is a link: it is opened before
                anything is checked.
        """
        try:
            opened = open_lock(self.path / "lock", self.path)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise UserError(
                f"{self.path}: cannot be written to ({error.strerror}); `easy2hard branch {self.path} --from-round "
                f"{max(len(self.manifest.rounds) - 1, 0)} --out DIR` goes on in a copy"
            ) from error
        with opened as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"{self.path}: another process is writing this run") from error
            yield

    def save(self, manifest: Manifest) -> None:
        """Replace the manifest; this is what commits a round."""
        _write_manifest(self.path, manifest)

    def save_weights(self, number: int, members: Iterable[torch.nn.Module]) -> str:
        """Write all members' weights; return the file's SHA-256."""
        content = _weights(members)
        write_file(self.weights_path(number), content, self.path)
        return hashlib.sha256(content).hexdigest()

    def save_training(self, number: int, rows: list[tuple[int, float, float, int]]) -> None:
        """Write the steps of a round: (step, loss, share of the peak learning rate, tokens)."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["step", "loss", "learning_rate", "tokens"])
        writer.writerows(rows)
        write_file(self.training_path(number), text.getvalue().encode(), self.path)

    def save_labels(self, number: int, labels: LabelCheckpoint) -> None:
        """Keep what the label phase of a round came to, before its training."""
        write_sealed(self.labels_path(number), labels.model_dump_json(indent=1).encode())

    def save_restarts(self, number: int, restarts: RestartsCheckpoint) -> None:
        """Keep which members left a round's batches for others, and why."""
        write_sealed(self.restarts_path(number), restarts.model_dump_json(indent=1).encode())

    def pruned(self, manifest: Manifest, keep: int | None) -> Manifest:
        """Return the manifest without the weights of all but the newest ``keep`` rounds; save it before they go."""
        old = len(manifest.rounds) - keep if keep else 0
        rounds = [
            record.model_copy(
                update={
                    "pruned": True,
                    "files": {name: digest for name, digest in record.files.items() if not name.startswith("weights/")},
                }
            )
            if record.round < old
            else record
            for record in manifest.rounds
        ]
        return manifest.model_copy(update={"rounds": rounds})

    def remove_pruned(self, manifest: Manifest) -> None:
        """Remove the weights that the manifest no longer lists."""
        for record in manifest.rounds:
            if record.pruned:
                self.weights_path(record.round).unlink(missing_ok=True)

    def clear_checkpoints(self, but: int | None = None) -> None:
        """Remove what is kept within rounds, but that of one round where it is given."""
        for path in self.checkpoint_folder.iterdir():
            if but is None or not path.name.startswith(f"round-{but:03d}") or path.suffix == ".tmp":
                path.unlink()


def _refuse_used(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(
            f"--out {path}: exists and is not an empty directory; choose another, or use `easy2hard resume`"
        )
    if path.resolve() == Path.cwd():
        raise UserError(f"--out {path}: is the current directory; name one inside it")
    for above in path.resolve().parents:
        if (above / "manifest.json").exists() and (above / "settings.toml").exists():
            raise UserError(f"--out {path}: is inside the run {above}; a run needs a directory of its own")


@contextmanager
def new_folder(path: Path, subfolders: Iterable[str] = ()) -> Iterator[Path]:
    """Give a folder to fill, with its subfolders; it gets its name once it is complete.

    So a directory under the right name is always complete: a run that can be resumed, an export that can be loaded.

    Raises:
        OSError: something cannot be written, whoever wrote it; the folder is named.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        for folder in subfolders:
            (begun / folder).mkdir()
        yield begun
        for written in (begun, *begun.rglob("*")):  # libraries may write for their user alone
            written.chmod((0o777 if written.is_dir() else 0o666) & ~_umask())
        begun.replace(path)
    except BaseException as error:
        shutil.rmtree(begun)
        if number := _error_number(error):  # a full disk, say: the folder that was asked for is named
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def _error_number(error: BaseException) -> int | None:
    """Return the system's number of an error; libraries written in Rust have it in their words."""
    if isinstance(error, OSError):
        return error.errno
    said = re.search(r"\(os error (\d+)\)", str(error))
    return int(said[1]) if said else None


def check_weights(path: Path, least: int) -> None:
    """Refuse a file that cannot hold the weights, before members are made to take them.

    Raises:
        UserError: it has fewer than ``least`` bytes.
    """
    if (size := path.stat().st_size) < least:
        raise UserError(f"{path}: damaged, or of other settings: has {size:,} bytes, these have at least {least:,}")


def load_weights(path: Path, members: Sequence[torch.nn.Module]) -> None:
    """Load all members' weights from a file of :meth:`Store.save_weights`, in place.

    Raises:
        UserError: the file is no such file.
    """
    room = HEADER_BYTES + sum(each.nbytes for member in members for each in member.state_dict().values())
    with open_inside(path, path.parents[1]) as file:
        if (size := os.fstat(file.fileno()).st_size) > room:
            raise UserError(f"{path}: damaged, or of other settings: has {size:,} bytes, these have at most {room:,}")
        try:
            tensors = safetensors.torch.load_file(f"/dev/fd/{file.fileno()}")  # the file that was opened, not its name
            for index, member in enumerate(members):
                prefix = f"{index}."
                member.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        except (safetensors.SafetensorError, RuntimeError) as error:
            raise UserError(f"{path}: damaged, or of other settings: {str(error).splitlines()[0]}") from error


def load_mean(paths: Sequence[Path], members: Sequence[torch.nn.Module]) -> str:
    """Load the mean of all members' weights over files of :meth:`Store.save_weights`, in place.

    Sums are float64, in the order of the files. Returns the SHA-256 that the mean would have as such a file.

    Raises:
        UserError: one is no such file.
    """
    sums: list[dict[str, torch.Tensor]] = []
    for path in paths:
        load_weights(path, members)
        states = [member.state_dict() for member in members]
        if not sums:
            sums = [{name: torch.zeros_like(each, dtype=torch.float64) for name, each in s.items()} for s in states]
        for total, state in zip(sums, states, strict=True):
            for name, each in state.items():
                total[name] += each
    for member, total in zip(members, sums, strict=True):
        member.load_state_dict({name: each / len(paths) for name, each in total.items()})
    return hashlib.sha256(_weights(members)).hexdigest()


def _weights(members: Iterable[torch.nn.Module]) -> bytes:
    """Return all members' weights as one file."""
    tensors = {
        f"{index}.{name}": tensor.detach().cpu().contiguous()
        for index, member in enumerate(members)
        for name, tensor in member.state_dict().items()
    }
    return safetensors.torch.save(tensors)


def _umask() -> int:
    """Return the process's mask of permissions; asking for it means setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _write_settings(path: Path, settings: Settings, manifest: Manifest) -> None:
    """Write the settings, and the manifest with their digest."""
    content = settings.to_toml().encode()
    write_file(path / "settings.toml", content, path)
    digest = hashlib.sha256(content).hexdigest()
    _write_manifest(path, manifest.model_copy(update={"settings_sha256": digest}))


def _write_manifest(path: Path, manifest: Manifest) -> None:
    write_file(path / "manifest.json", manifest_text(manifest).encode(), path)


def write_sealed(path: Path, content: bytes) -> None:
    """Write a file in ``checkpoint/`` that ends with the SHA-256 of the rest: no manifest lists it."""
    write_file(path, content + hashlib.sha256(content).digest(), path.parents[1])
