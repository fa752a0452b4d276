"""Door `environments`: commands in processes with unusual files, folders, variables and standard streams."""

from __future__ import annotations

import errno
import mmap
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from random import Random

from harness.cli.main import main
from harness.runner.execute import execute
from harness.runner.plan import plan_request
from harness.runner.store import Store
from tests.fuzz.frame import Door, check_line, store_problems, tree_sha256
from tests.fuzz.refusing_system import refuse

RUN = ("run", "--model", "cifar10-rn8s29-dense", "--n", "4", "--attack", "pgd-20", "--workers", "1")
READING = (
    ("ls", "models"),
    ("show", "cifar10-rn8s29-dense"),
    ("status", "--suite", "smoke"),
    ("plan", "--suite", "smoke"),
    ("store", "verify"),
    ("footprint", "cifar10-rn8s29-dense"),
    ("reproduce", "table-1"),
)
WRITING = (
    RUN,
    ("report",),
    ("store", "pack"),
    ("store", "invalidate", "--model", "cifar10-rn8s29-dense", "--reason", "x"),
    ("export", "cifar10-rn8s29-dense"),
)
ERRORS = (errno.EROFS, errno.ENOSPC, errno.EIO, errno.EACCES, errno.EISDIR, errno.ENOTDIR)
FAULTS = ("error", "error", "error", "full", "full", "file-for-folder", "folder-for-file")
KINDS = (*FAULTS, "stream", "stream", "variable", "variable", "no-folder", "limit")
# Time limit of one case in seconds, on a busy machine.
SECONDS = 600
# Commands that may change the store; all others must leave it unchanged.
CHANGING = ("run", "pack", "invalidate")
# Shell redirections of the output, each with whether the command may succeed.
STREAMS = {">&-": True, "2>&-": True, ">&- 2>&-": True, ">/dev/full": False, "| true": True, "2>/dev/full": False}
# Shell commands before the command. Exhausted memory must give one line; the superuser may write files that the mask forbids.
LIMITS = ("ulimit -v 400000", "ulimit -v 1500000", "ulimit -n 24", "umask 777")
VARIABLES: dict[str, dict[str, str | None]] = {
    "no HOME": {"HOME": None, "XDG_CACHE_HOME": None},
    "HOME unwritable": {"HOME": "/proc/self", "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None},
    "no TMPDIR": {"TMPDIR": None},
    "missing TMPDIR": {"TMPDIR": "/no/such/folder"},
    "one column": {"COLUMNS": "1"},
    "C locale": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "NO_COLOR": {"NO_COLOR": "1"},
    "dumb terminal": {"TERM": "dumb"},
}


def case(random: Random, folder: Path) -> None:
    """Run one command in one environment; it must succeed, or fail with one line and leave the store unchanged."""
    kind = random.choice(KINDS)
    command = random.choice({"stream": READING, "variable": READING + WRITING}.get(kind, WRITING))
    store, reports = folder / "results", folder / "reports"
    _fill(store)
    words = [*command, *([] if command[0] in ("ls", "export", "footprint") else ["--store", str(store)])]
    outputs = {
        "run": ["--reports", str(reports)],
        "report": ["--out", str(reports), "--format", "md"],
        "export": ["--out", str(folder / "out.safetensors")],
    }
    words += outputs.get(command[0], [])
    redirection, setting, may_succeed, name, before = "", "", False, "", tree_sha256(store)
    # Memory that is shared with a forked process.
    has_refused = mmap.mmap(-1, 1)
    variables: dict[str, str | None] = {}
    change: Callable[[], None] = partial(_set, {})
    if kind == "error":
        change = partial(refuse, random.choice(ERRORS), random.randrange(6), str(folder), partial(has_refused.__setitem__, 0, 1))
        may_succeed, name = True, str(folder)
    elif kind == "file-for-folder":
        target = random.choice([store, reports]) if command[0] in ("run", "report") else store
        name = str(target)
        if target == store:
            _remove(store)
        target.write_text("a file")
        before, may_succeed = _sha256(store), command[0] == "export"
    elif kind == "folder-for-file":
        target = {"run": reports / "request" / "summary.md", "report": reports / "README.md", "export": folder / "out.safetensors"}.get(
            command[0], store / ("outcomes.parquet" if "pack" in command else "manifests.json.zst")
        )
        target.mkdir(parents=True)
        (target / "a").touch()
        name, before = target.name, tree_sha256(store)
    elif kind == "full":
        # A write beyond the file-size limit fails in the middle; the messages of the command are written to a file, too.
        size = random.randrange(2_000, 20_000)
        change = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
        may_succeed, name = command[0] != "export", str(folder)
    elif kind == "limit":
        setting, may_succeed = random.choice(LIMITS), True
    elif kind == "stream":
        redirection = random.choice(sorted(STREAMS))
        may_succeed, name = True, "standard output" if redirection == ">/dev/full" else ""
    elif kind == "variable":
        variables = VARIABLES[random.choice(sorted(VARIABLES))]
        change = partial(_set, variables)
        may_succeed = True
    else:
        (folder / "gone").mkdir()
        change, may_succeed = (folder / "gone").rmdir, True
    # Closed streams and another encoding require a new process; all other cases run in a fork of this one, which is faster.
    if redirection or setting or {"LANG", "PYTHONIOENCODING"} & set(variables):
        status, stderr = _run(words, variables, setting, redirection, folder)
    else:
        status, stderr = _fork(words, change, folder / "gone" if kind == "no-folder" else folder)
    assert "Traceback" not in stderr and "Exception ignored" not in stderr, stderr[-2000:]
    assert status in (0, 1, 2), f"status {status}: {stderr[-500:]}"
    if status == 0:
        assert may_succeed and not has_refused[0], f"accepted: {kind} {words}"
        assert redirection != ">/dev/full", "lost its output and said nothing"
    if not set(CHANGING) & set(command):
        assert _sha256(store) == before, "the store has changed"
    if store.is_dir() and kind != "folder-for-file":
        assert not (problems := store_problems(store)), f"the store is damaged: {problems}"
    if status == 0:
        return
    if kind == "variable":
        raise AssertionError(f"refused: {stderr[-500:]}")
    lines = [line for line in stderr.splitlines() if line.startswith(("harness: ", "failed: "))]
    if "2>" not in redirection and redirection != "| true":
        assert lines, f"no line: {stderr[-1000:]!r}"
        check_line(lines[0], name)


def _sha256(path: Path) -> str:
    """Return a hash of a file, or of all files in a folder."""
    return tree_sha256(path) if path.is_dir() else path.read_bytes().hex()


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _run(words: list[str], variables: dict[str, str | None], setting: str, redirection: str, folder: Path) -> tuple[int, str]:
    """Run a command in a new process in `folder` after a shell's `setting`; return its exit status and standard error."""
    line = f"{setting or ':'}; {shlex.join([sys.executable, '-m', 'harness.cli.main', *words])} {redirection}"
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | variables
    defined = {name: value for name, value in environment.items() if value is not None}
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], env=defined, cwd=folder, capture_output=True, check=False)
    return done.returncode, done.stderr.decode()


def _fork(words: list[str], change: Callable[[], None], folder: Path) -> tuple[int, str]:
    """Run a command in a fork of this process, after calling `change` in it; return its exit status and standard error."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as messages:
        child = os.fork()
        if child == 0:
            status = 70
            try:
                os.dup2(output.fileno(), 1)
                os.dup2(messages.fileno(), 2)
                os.chdir(folder)
                sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
                tempfile.tempdir = None
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(SECONDS - 10)
                change()
                main(words, prog_name="harness")
            except SystemExit as error:
                status = error.code if isinstance(error.code, int) else int(error.code is not None)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        messages.seek(0)
        return os.waitstatus_to_exitcode(status), messages.read().decode()


def _fill(store: Path) -> None:
    store.mkdir()
    for name, content in _stored().items():
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(content)


def _remove(store: Path) -> None:
    for path in sorted(store.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    store.rmdir()


@cache
def _stored() -> dict[str, bytes]:
    """Return the files of a store with one unit of the model of `RUN`, by name."""
    with tempfile.TemporaryDirectory() as folder:
        execute(plan_request(["cifar10-rn8s29-dense"], ["pgd-20"], "cifar10-sample", 2), Store(Path(folder)))
        return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


DOOR = Door("environments", full=100, ci=1, case=case, seconds=SECONDS)
