"""Frame of the fuzzing: doors, their cases, and what every refusal must look like.

A door is a module in `tests/fuzz/doors` with an attribute `DOOR`. Its function `case` makes one input from a source of random numbers,
gives it to the program and raises an AssertionError if the result is wrong. It knows what to expect of the input that it made: a valid
one must be read as the expected value, an invalid one must be refused.
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

# The seed of every door; case number i of a door has the random numbers of "SEED/NAME/i".
SEED = 19
# A refusal is one line of at most this length.
LINE = 300
# Seconds after which a case has failed, unless its door has another limit.
CASE_SECONDS = 120


@dataclass(frozen=True)
class Door:
    """One kind of input.

    Attributes
    ----------
    name : str
        "packed": also the module's name.
    full, ci : int
        Numbers of cases: of the command, and of `pytest tests/fuzz` (a few seconds; 0 if one case takes longer).
    case : callable
        Runs one case from a source of random numbers, in an empty folder; raises an AssertionError if the result is wrong.
    seconds : int
        After which a case has failed.
    """

    name: str
    full: int
    ci: int
    case: Callable[[Random, Path], None]
    seconds: int = CASE_SECONDS


@dataclass
class Count:
    """How many cases of a door were tried, and what was wrong with each that failed, by number."""

    tried: int = 0
    failed: dict[int, str] = field(default_factory=dict)


def doors() -> dict[str, Door]:
    """Return all doors by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(tests.fuzz.doors.__path__))
    found = (importlib.import_module(f"tests.fuzz.doors.{name}").DOOR for name in names)
    return {door.name: door for door in found}


def run_case(door: Door, random: Random) -> None:
    """Run one case in an empty folder that is deleted afterwards; raises whatever the case raises."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder, _limited(door.seconds):
        door.case(random, Path(folder).resolve())


def run_door(door: Door, numbers: range, on_failure: Callable[[int, str], None]) -> Count:
    """Run the cases with these numbers; an exception of any kind is a failure."""
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
    """Raise an AssertionError if the block takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"more than {seconds} s")

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)


def tree_sha256(folder: Path) -> str:
    """Return a hash of the names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)}\n".encode())
        if path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def damage(store: Path) -> list[str]:
    """Return what is wrong with a store, except temporary files: a process that was stopped may leave them, and nothing reads them."""
    return [problem for problem in verify(Store(store)).problems if ".tmp: left behind" not in problem]


def command(*arguments: object) -> Result:
    """Run `harness` with these arguments in this process."""
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
    """Check that a message is one line of at most 300 characters that contains `name` and no control characters."""
    assert len(message.splitlines()) == 1, f"not one line: {message[:1000]!r}"
    assert len(message) <= LINE, f"{len(message)} characters: {message!r}"
    assert message.isprintable(), f"control characters: {message!r}"
    assert name in message, f"{name!r} is not named: {message!r}"


def refusal(action: Callable[[], object], name: str) -> UserError | None:
    """Run a function of the library; return its UserError after checking the message, or None if it accepted its input."""
    try:
        action()
    except UserError as error:
        check_line(str(error), name)
        return error
    return None


def _raised(result: Result) -> str:
    return "".join(traceback.format_exception(result.exception))[-2000:]
