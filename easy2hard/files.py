"""Files on the disk: one way to open what belongs to a run, and one way to write anything.

A run directory may be somebody else's. So nothing of it is read or written through a link or a special file (a pipe
would wait for ever, a device has no end), and no file is read whole that is larger than such a file can be. What is
written is whole or not there: it gets its name once it is on the disk.
"""

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from easy2hard.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_BYTES = 1 << 29
"""A Parquet file whose columns take more in memory is not read by whoever looks at a run: about a million labels."""
HOLLOW = 1000
"""A file that takes so many times less on the disk than it is long costs a stranger nothing and its readers hours."""
CELL_BYTES = 64
"""Of a value in memory, as Python has it."""
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def special(path: Path) -> str | None:
    """Return what a path is, in words, if it is neither a file nor a folder nor missing."""
    try:
        return _KINDS.get(stat.S_IFMT(path.lstat().st_mode))
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Have every error of the system say which file it is about."""
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str) and os.sep in error.filename:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


@contextmanager
def _folder_of(path: Path, root: Path) -> Iterator[int]:
    """Give a descriptor of the folder of ``path``; no link is followed below ``root``."""
    parts = path.relative_to(root).parts
    if ".." in parts:
        raise UserError(f"{path}: leads out of {root}")
    for count in range(1, len(parts) + 1):
        if kind := special(root.joinpath(*parts[:count])):
            raise UserError(f"{path}: {Path(*parts[:count])} is {kind}, and nothing of a run is read or written there")
    with ExitStack() as opened:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, folder)
        for part in parts[:-1]:
            folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            opened.callback(os.close, folder)
        yield folder


def open_inside(path: Path, root: Path) -> BufferedReader:
    """Open a file of a folder for reading.

    Args:
        path: the file.
        root: the folder, which the user named; ``path`` is in it or in one below.

    Raises:
        UserError: the file, or a folder on the way to it, is a link, or it is no ordinary file.
        OSError: it is missing or cannot be read.
    """
    with _named(path), _folder_of(path, root) as folder:
        # What has become a pipe since it was looked at must not wait for a writer.
        handle = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        file = os.fdopen(_ordinary(handle, path), "rb")
    state = os.fstat(file.fileno())
    if state.st_size > max(1 << 20, HOLLOW * 512 * state.st_blocks):
        file.close()
        raise UserError(f"{path}: damaged: its {state.st_size:,} bytes are nearly all a hole that nobody wrote")
    return file


def open_lock(path: Path, root: Path) -> BufferedRandom:
    """Open a file of a folder, made where it is missing, to be locked.

    Raises:
        UserError: as :func:`open_inside`.
        OSError: it cannot be opened.
    """
    with _named(path), _folder_of(path, root) as folder:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        return os.fdopen(_ordinary(os.open(path.name, flags, 0o666, dir_fd=folder), path), "r+b")


def _ordinary(handle: int, path: Path) -> int:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{path}: not a file")
    return handle


def read_inside(path: Path, root: Path, most: int) -> bytes:
    """Return what a file of a folder holds.

    Args:
        path: the file.
        root: the folder.
        most: bytes that such a file can have.

    Raises:
        UserError: as :func:`open_inside`, or the file is larger.
        OSError: it is missing or cannot be read.
    """
    with open_inside(path, root) as file, _named(path):
        size = os.fstat(file.fileno()).st_size
        content = file.read(most + 1) if size <= most else b""
    if max(size, len(content)) > most:
        raise UserError(f"{path}: damaged: has {size:,} bytes, and no such file has more than {most:,}")
    return content


@contextmanager
def writing(path: Path, root: Path | None = None, flush: bool = True) -> Iterator[BinaryIO]:
    """Give a file to write, which takes the place of ``path`` once it is whole and on the disk.

    Args:
        path: the file. Where it is missing a whole one or none is there afterwards.
        root: the run or another folder that must not be left; None for what the user named, where links are followed
            and a device or a pipe is written to.
        flush: wait until it is on the disk.

    Raises:
        UserError: within ``root`` there is a link or a special file on the way, or in its place.
        OSError: it cannot be written; the name is in it.
    """
    place = path if root else path.resolve()
    if not root and special(place):
        with _named(path), place.open("wb") as file:
            yield file
        return
    temporary = place.name + ".tmp"
    with _named(path), _folder_of(place, root or place.parent) as folder:
        try:
            with _begun(place, folder) as file:
                yield file
                file.flush()
                if flush:
                    os.fsync(file.fileno())
            os.replace(temporary, place.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        if flush:
            os.fsync(folder)


def _begun(path: Path, folder: int) -> BufferedRandom:
    """Open what becomes ``path``, beside it."""
    name = path.name + ".tmp"
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)  # of a process that was killed; or planted, and never written through
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.fdopen(os.open(name, flags, 0o666, dir_fd=folder), "w+b")


def write_file(path: Path, content: bytes, root: Path | None = None, flush: bool = True) -> None:
    """Put a file in the place of another, whole or not at all; it is read back before the other goes.

    Args:
        path: the file.
        content: what it holds.
        root: as for :func:`writing`.
        flush: wait until it is on the disk.

    Raises:
        UserError: as :func:`writing`.
        OSError: it cannot be written, or the disk does not give it back.
    """
    with writing(path, root, flush) as file:
        file.write(content)
        file.flush()
        if flush and file.seekable() and file.readable():
            file.seek(0)
            if file.read() != content:
                raise OSError(5, "the disk does not give back what was written to it")


def copy_inside(path: Path, root: Path, target: Path) -> None:
    """Copy a file of a folder, without following a link there, to a new place.

    Raises:
        UserError: as :func:`open_inside`.
        OSError: it cannot be read or written.
    """
    with open_inside(path, root) as source, writing(target) as copy:
        shutil.copyfileobj(source, copy, 1 << 20)


def read_table(
    path: Path,
    root: Path,
    columns: Sequence[str] | None = None,
    rows: int | None = None,
    most: int | None = TABLE_BYTES,
) -> "pa.Table":
    """Return columns of a Parquet file of a folder; texts are only repeated once their lengths are known.

    Args:
        path: the file.
        root: the folder.
        columns: those to read, where the file has them; default: all.
        rows: how many there have to be; default: any number.
        most: bytes that it may take in memory; None for a run that this machine has taken on as a whole.

    Raises:
        UserError: as :func:`open_inside`; or it is no such file, has other rows or columns that are no plain values,
            or would fill the memory.
        OSError: it is missing or cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with open_inside(path, root) as file:
        try:
            declared = pq.read_metadata(file)
            schema = declared.schema.to_arrow_schema()
            if rows is not None and declared.num_rows != rows:
                raise UserError(f"{path}: damaged: it has {declared.num_rows:,} rows, and the manifest {rows:,}")
            names = [name for name in schema.names if columns is None or name in columns]
            chosen = pa.schema([schema.field(name) for name in names])
            plain = (pa.types.is_primitive, pa.types.is_null, pa.types.is_string)
            if odd := [field.name for field in schema if not any(holds(_values(field)) for holds in plain)]:
                raise UserError(f"{path}: damaged: column {odd[0]!r} has no plain values")
            groups = [declared.row_group(index) for index in range(declared.num_row_groups)]
            places = [schema.names.index(name) for name in names]
            uncompressed = sum(group.column(place).total_uncompressed_size for group in groups for place in places)
            _check_fits(path, uncompressed + CELL_BYTES * len(names) * declared.num_rows, most)
            # A text that is repeated is in memory once, until it is known how long all of them are.
            texts = [field.name for field in chosen if pa.types.is_string(_values(field))]
            table = pq.ParquetFile(file, read_dictionary=texts).read(columns=names)
            chunks = [chunk for name in texts for chunk in table[name].chunks]
            lengths = [pc.sum(pc.binary_length(each.dictionary).take(each.indices)).as_py() or 0 for each in chunks]
            _check_fits(path, sum(lengths) + CELL_BYTES * len(names) * declared.num_rows, most)
            return table.cast(chosen)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path}: damaged: {str(error).splitlines()[0][:200]}") from error


def _values(field: "pa.Field") -> "pa.DataType":
    """Return the type of a column's values, be they written once each or not."""
    import pyarrow as pa

    return field.type.value_type if pa.types.is_dictionary(field.type) else field.type


def _check_fits(path: Path, size: int, most: int | None) -> None:
    if most is not None and size > most:
        raise UserError(f"{path}: takes {size / 1e6:,.0f} MB in memory, and at most {most / 1e6:,.0f} MB are read")
