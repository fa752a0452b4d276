"""Framework of the fuzzing: doors, their cases, and checks of error messages.

A door is a module in `tests/fuzz/doors` with an attribute `DOOR`. Its function `case` creates one input from a source of random numbers,
passes it to the program and raises an AssertionError if the result is wrong. The expected result is known by construction: a valid input
must be read as the expected value, and an invalid one must be rejected.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from click.testing import CliRunner, Result

import tests.fuzz.doors
from harness.cli.main import main
from harness.runner.store import Store
from harness.runner.verify import verify
from model_zoo.errors import UserError

# Seed of every door; case number i of a door uses the random numbers of "SEED/NAME/i".
SEED = 19
# Maximum length of an error message, which is one line.
LINE = 300
# Time limit of a case in seconds, unless its door has another limit.
CASE_SECONDS = 120


@dataclass(frozen=True)
class Door:
    """One kind of input.

    Attributes
    ----------
    name : str
        Name, which is also the name of the module.
    full, ci : int
        Numbers of cases of the command and of `pytest tests/fuzz` (a few seconds; 0 if one case takes longer).
    case : callable
        Function that runs one case from a source of random numbers, in an empty folder; raises AssertionError if the result is wrong.
    seconds : int
        Time limit of a case.
    """

    name: str
    full: int
    ci: int
    case: Callable[[Random, Path], None]
    seconds: int = CASE_SECONDS


@dataclass
class Count:
    """Number of cases that ran, and the traceback of each failed case, by its number."""

    tried: int = 0
    failed: dict[int, str] = field(default_factory=dict)


def doors() -> dict[str, Door]:
    """Return all doors by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(tests.fuzz.doors.__path__))
    all_doors = (importlib.import_module(f"tests.fuzz.doors.{name}").DOOR for name in names)
    return {door.name: door for door in all_doors}


def run_case(door: Door, random: Random) -> None:
    """Run one case in an empty folder that is deleted afterwards; raise any exception of the case."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder, _limited(door.seconds):
        door.case(random, Path(folder).resolve())


def run_door(door: Door, numbers: range, on_failure: Callable[[int, str], None]) -> Count:
    """Run the cases with these numbers; any exception counts as a failure."""
    count = Count()
    for number in numbers:
        count.tried += 1
        try:
            run_case(door, Random(f"{SEED}/{door.name}/{number}"))
        except Exception:
            count.failed[number] = traceback.format_exc()
            on_failure(number, count.failed[number])
    return count


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """Raise an AssertionError if the block takes longer than `seconds`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"more than {seconds} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def tree_sha256(folder: Path) -> str:
    """Return a hash of the names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)}\n".encode())
        if path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def store_problems(store: Path) -> list[str]:
    """Return the problems of a store except temporary files, which a stopped process may leave and which are never read."""
    return [problem for problem in verify(Store(store)).problems if ".tmp: left behind" not in problem]


def command(*arguments: object) -> Result:
    """Run `harness` with these arguments in this process and return its result."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def check_refused(result: Result, name: str) -> None:
    """Check that a command failed with one short line on stderr that contains `name`, and without a traceback."""
    assert result.exception is None or isinstance(result.exception, SystemExit), _raised(result)
    assert result.exit_code != 0, f"accepted; stdout: {result.stdout[:500]!r}"
    check_line(result.stderr.rstrip("\n"), name)


def check_accepted(result: Result) -> None:
    """Check that a command succeeded."""
    assert result.exception is None or isinstance(result.exception, SystemExit), _raised(result)
    assert result.exit_code == 0, f"refused: {result.stderr[:500]}"


def check_line(message: str, name: str) -> None:
    """Check that a message is one line of at most 300 characters, contains `name` and has no control characters."""
    assert len(message.splitlines()) == 1, f"not one line: {message[:1000]!r}"
    assert len(message) <= LINE, f"{len(message)} characters: {message!r}"
    assert message.isprintable(), f"control characters: {message!r}"
    assert name in message, f"{name!r} is not named: {message!r}"


def refusal(action: Callable[[], object], name: str) -> UserError | None:
    """Call a function of the library; return its UserError after checking the message, or None if it accepted its input."""
    try:
        action()
    except UserError as error:
        check_line(str(error), name)
        return error
    return None


def _raised(result: Result) -> str:
    return "".join(traceback.format_exception(result.exception))[-2000:]
