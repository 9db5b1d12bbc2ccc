"""What a third party can add: filters, schedules, position schemes and tasks, all found in one way (docs/extending.md).

A thing is a class below the base class of its kind. It is built in, offered by an installed package (an entry point),
or defined by a Python file that the user names (``--plugin FILE``). To list names runs no code of a third party; to
find a thing does. Whoever may not import the base class of a kind cannot ask for things of that kind: so the oracle
firewall holds here as it does elsewhere.
"""

import hashlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

from easy2hard.errors import UserError

if TYPE_CHECKING:
    from easy2hard.improvement.schedules import Schedule
    from easy2hard.positions import Positions
    from easy2hard.settings.filters import Filter


class Extension:
    """What can be added. The base class of each kind is one of these."""

    kind: ClassVar[str]
    """What things of this kind are called in messages, such as ``filter``."""

    @classmethod
    def extension_name(cls) -> str | None:
        """Return the name that settings have for it; None where the class has none."""
        name = getattr(cls, "name", None)
        return name if isinstance(name, str) else None

    @classmethod
    def blamed(cls) -> set[str]:
        """Return the names of the classes whose mistakes are its own."""
        return {cls.__name__}


def _absolute(file: str) -> str:
    if not Path(file).is_absolute():
        raise ValueError(f"{file!r}: the path of a plug-in must be absolute")
    return file


class Origin(BaseModel):
    """Where a plug-in came from; a run's manifest has it for each that the run uses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: str
    source: str
    """The file that ``--plugin`` named, or the entry point and its package."""
    file: Annotated[str, AfterValidator(_absolute)]
    """The absolute path of the Python file: one that depends on where the user is could be anybody's."""
    sha256: str
    """Digest of the file."""


@dataclass(frozen=True)
class _Loaded:
    """A Python file of a third party that was run."""

    source: str
    sha256: str
    things: list[type[Extension]]


_loaded: dict[str, _Loaded] = {}
"""By absolute path. What was run cannot be taken back, so this is for the whole process."""

T = TypeVar("T", bound=Extension)
M = TypeVar("M")


_kinds: "list[Kind[Any]]" = []


class Kind(Generic[T]):
    """One kind of things.

    Args:
        base: ``module:Class``, imported once somebody asks.
        home: the module or package whose classes below ``base`` are built in.
        group: of the entry points by which installed packages offer more, each a class.
        setting: what chooses one.
    """

    def __init__(self, base: str, home: str, group: str, setting: str) -> None:
        self._base, self._home, self.group, self.setting = base, home, group, setting
        _kinds.append(self)

    @cached_property
    def base(self) -> type[T]:
        """The base class."""
        module, _, name = self._base.partition(":")
        found: type[T] = getattr(import_module(module), name)
        return found

    @cached_property
    def built_in(self) -> dict[str, type[T]]:
        """What comes with the package, by name."""
        home = import_module(self._home)
        inside = [f"{self._home}.{each.name}" for each in pkgutil.iter_modules(getattr(home, "__path__", []))]
        things = [thing for module in (home, *map(import_module, inside)) for thing in _things_of(module)]
        named = ((thing.extension_name(), thing) for thing in things if issubclass(thing, self.base))
        return {name: thing for name, thing in named if name is not None and not inspect.isabstract(thing)}

    def names(self) -> list[str]:
        """Return the names of all that there are, sorted; no code of an installed package is run."""
        return sorted({*self.built_in, *self._of_files, *(point.name for point in entry_points(group=self.group))})

    @property
    def _of_files(self) -> dict[str, type[T]]:
        things = (thing for loaded in _loaded.values() for thing in loaded.things if issubclass(thing, self.base))
        return {str(thing.extension_name()): thing for thing in things}

    def loaded(self, name: str) -> type[T] | None:
        """Return what is called ``name`` if it is built in or its code was run already."""
        return self._of_files.get(name) or self.built_in.get(name)

    def find(self, name: str) -> type[T]:
        """Return what is called ``name``; runs the code of the installed package that offers it.

        Raises:
            UserError: there is nothing of that name, or its code fails.
        """
        found = self.loaded(name)
        if found is not None:
            return found
        for point in entry_points(group=self.group, name=name):
            self._load(point)
            return self._of_files[name]
        raise UserError(
            f"{self.setting} = {name!r}: no such {self.base.kind} (known: {', '.join(self.names())}; others need "
            "--plugin FILE or an installed package)"
        )

    def _load(self, point: EntryPoint) -> None:
        where = f"{self.base.kind} {point.name} of {point.value}"
        try:
            thing = point.load()
        except Exception as error:
            raise UserError(f"{where}: {in_a_line(error)}") from error
        if not (inspect.isclass(thing) and issubclass(thing, self.base)):
            raise UserError(f"{where}: {thing!r} is no subclass of {self.base.__name__} (see docs/extending.md)")
        if _checked(thing, where) != point.name:
            raise UserError(f"{where}: it is called {thing.extension_name()!r}, registered as {point.name!r}")
        file = str(Path(inspect.getfile(thing)).absolute())
        source = f"{point.value}, {point.dist.name} {point.dist.version}" if point.dist else point.value
        before = _loaded[file].things if file in _loaded else []
        _loaded[file] = _Loaded(source, _digest(Path(file)), [*before, thing])

    def origin(self, name: str) -> Origin | None:
        """Return where something came from; None where it is built in or not loaded."""
        thing = self._of_files.get(name)
        for file, loaded in _loaded.items():
            if thing in loaded.things:
                kind = self.base.kind
                return Origin(kind=kind, name=name, source=loaded.source, file=file, sha256=loaded.sha256)
        return None


FILTERS: "Kind[Filter]" = Kind(
    "easy2hard.settings.filters:Filter", "easy2hard.improvement.filters", "easy2hard.filters", "name"
)
SCHEDULES: "Kind[Schedule]" = Kind(
    "easy2hard.improvement.schedules:Schedule",
    "easy2hard.improvement.schedules",
    "easy2hard.schedules",
    "schedule.name",
)
POSITIONS: "Kind[Positions]" = Kind(
    "easy2hard.positions:Positions", "easy2hard.positions", "easy2hard.positions", "model.positions"
)
"""The fourth kind, tasks with their oracles, is in tasks/registry.py, where labelling cannot reach it."""


def load_file(path: Path) -> list[type[Extension]]:
    """Run the Python file ``path`` and return what it defines: all classes of some kind, known by name from then on.

    Raises:
        UserError: the file is missing, fails, or defines nothing that can be added.
    """
    where = f"--plugin {path}"
    if not path.is_file():
        raise UserError(f"{where}: no such file")
    file, digest = str(path.absolute()), _digest(path)
    if file in _loaded and _loaded[file].sha256 == digest:
        return _loaded[file].things
    spec = importlib.util.spec_from_file_location(f"easy2hard_plugin_{path.stem}_{digest[:8]}", file)
    if spec is None or spec.loader is None:
        raise UserError(f"{where}: not a Python file (its name must end in .py)")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{where}: {in_a_line(error, {file})}") from error
    things = [thing for thing in _things_of(module) if not thing.__name__.startswith("_")]
    if not things:
        raise UserError(f"{where}: defines no Filter, Schedule, Positions or Oracle (see docs/extending.md)")
    for thing in things:
        name, others = _checked(thing, where), {k: v for k, v in _loaded.items() if k != file}
        if any(name == each.extension_name() and thing.kind == each.kind for o in others.values() for each in o.things):
            raise UserError(f"{where}: {thing.kind} {name} is there already; choose another name")
    _loaded[file] = _Loaded(str(path), digest, things)
    return things


def _things_of(module: ModuleType) -> list[type[Extension]]:
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Extension) and value.__module__ == module.__name__
    ]


def _checked(thing: type[Extension], where: str) -> str:
    """Return the name of a third party's thing."""
    name = thing.extension_name()
    if name is None:
        raise UserError(f"{where}: {thing.__name__} has no name, by which settings choose it (see docs/extending.md)")
    missing: set[str] = getattr(thing, "__abstractmethods__", set())
    if missing:
        raise UserError(f"{where}: {thing.kind} {name} has no method {', '.join(sorted(missing))}")
    for kind in _kinds:
        if kind.base.kind == thing.kind and name in kind.built_in:
            raise UserError(f"{where}: {thing.kind} {name} is built in; choose another name")
    return name


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def options_of(make: Callable[..., object]) -> dict[str, type]:
    """Return the options of something: the integers and texts of its constructor's arguments that have a default."""
    return {
        parameter.name: parameter.annotation
        for parameter in inspect.signature(make, eval_str=True).parameters.values()
        if parameter.annotation in (int, str) and parameter.default is not inspect.Parameter.empty
    }


def made(
    make: Callable[..., M],
    who: str,
    setting: str,
    options: Mapping[str, int | str],
    *arguments: object,
    thing: Callable[..., object] | None = None,
) -> M:
    """Return something made with its options.

    Args:
        make: makes it.
        who: what it is called, such as ``task copy``.
        setting: of its options.
        options: their values.
        arguments: what everything of its kind is made with.
        thing: whose constructor has the options, where that is not ``make``.

    Raises:
        UserError: it has no such option, or cannot be made.
    """
    accepted = options_of(thing or make)
    for option, value in options.items():
        if option not in accepted:
            allowed = f"allowed: {', '.join(accepted)}" if accepted else f"{who} has none"
            raise UserError(f"{setting}.{option} = {value}: unknown option ({allowed})")
        if not isinstance(value, accepted[option]):
            wanted = "a whole number" if accepted[option] is int else "a text"
            raise UserError(f"{setting}.{option} = {value!r}: must be {wanted}")
    try:
        return make(*arguments, **options)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{who}: cannot be made: {in_a_line(error)}") from error


@contextmanager
def fenced() -> Iterator[None]:
    """Turn what a plug-in raises into a line that names it, its file and the line.

    Raises:
        UserError: a plug-in raised something. What was raised elsewhere goes on as it is.
    """
    try:
        yield
    except (Exception, SystemExit) as error:  # a plug-in that ends the process would end it without a word
        ours = type(error).__module__.partition(".")[0] == "easy2hard"
        culprit = None if ours else _culprit(error)
        if culprit is None:
            raise
        raise UserError(f"{culprit}: {in_a_line(error)}") from error


def in_a_line(error: BaseException, files: set[str] | None = None) -> str:
    """Return an error in a line, with the place in a third party's file where it was raised, if it was."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in (files or _loaded)]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def _culprit(error: BaseException) -> str | None:
    """Return which plug-in raised an error; None where none did."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename in _loaded]
    if not frames:
        return None
    things = _loaded[frames[-1].f_code.co_filename].things
    for frame in reversed(frames):
        owner = frame.f_code.co_qualname.partition(".")[0]
        for thing in things:
            if owner in thing.blamed():
                return f"{thing.kind} {thing.extension_name()}"
    return f"{things[0].kind} {things[0].extension_name()}" if len(things) == 1 else "a plug-in"
