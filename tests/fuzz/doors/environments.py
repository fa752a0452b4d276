"""Environments: commands in processes whose files, folders, variables and standard streams are not as usual."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from random import Random

from tests.fuzz.frame import Door, check_line, tree_sha256

RUN = ("run", "--model", "cifar10-rn8s29-dense", "--n", "4", "--attack", "pgd-20", "--workers", "1")
READING = (
    ("ls", "models"),
    ("show", "cifar10-rn8s29-dense"),
    ("status", "--suite", "smoke"),
    ("plan", "--suite", "smoke"),
    ("store", "verify"),
)
WRITING = (RUN, ("report",), ("store", "pack"), ("export", "cifar10-rn8s29-dense", "--out", "out.safetensors"))
ERRORS = (errno.EROFS, errno.ENOSPC, errno.EIO, errno.EACCES, errno.EISDIR, errno.ENOTDIR)
KINDS = ("error", "error", "error", "file-for-folder", "folder-for-file", "stream", "stream", "variable", "variable", "no-folder")
# Each value is how a shell redirects the output, and whether the command may succeed.
STREAMS = {">&-": True, "2>&-": True, ">&- 2>&-": True, ">/dev/full": False, "| true": True, "2>/dev/full": False}
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
    """Run one command in one environment; it must succeed, or fail with one line and leave the store as it was."""
    kind = random.choice(KINDS)
    command = random.choice(WRITING if kind == "error" or kind.endswith(("folder", "file")) else READING + WRITING)
    store, reports = folder / "results", folder / "reports"
    _fill(store)
    words = [*command, *([] if command[0] in ("ls", "export") else ["--store", str(store)])]
    words += {"run": ["--reports", str(reports)], "report": ["--out", str(reports), "--format", "md"]}.get(command[0], [])
    environment: dict[str, str | None] = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    redirection, may_succeed, name, before = "", False, "", tree_sha256(store)
    if kind == "error":
        error = random.choice(ERRORS)
        environment |= {"FUZZ_ERRNO": str(error), "FUZZ_AFTER": str(random.randrange(6)), "FUZZ_ROOT": str(folder)}
        may_succeed, name = True, str(folder)
    elif kind == "file-for-folder":
        target = random.choice([store, reports]) if command[0] in ("run", "report") else store
        name = str(target)
        if target == store:
            _remove(store)
        target.write_text("a file")
        before, may_succeed = tree_sha256(folder), command[0] == "export"
    elif kind == "folder-for-file":
        target = {"run": reports / "request" / "summary.md", "report": reports / "README.md", "export": folder / "out.safetensors"}.get(
            command[0], store / "outcomes.parquet"
        )
        target.mkdir(parents=True)
        (target / "a").touch()
        name, before = target.name, tree_sha256(store)
    elif kind == "stream":
        redirection = random.choice(sorted(STREAMS))
        may_succeed, name = True, "standard output" if redirection == ">/dev/full" else ""
    elif kind == "variable":
        environment |= VARIABLES[random.choice(sorted(VARIABLES))]
        may_succeed = True
    else:
        (folder / "gone").mkdir()
        redirection, may_succeed = "", True
    status, stderr = _run(words, {**os.environ, **environment}, redirection, folder / "gone" if kind == "no-folder" else folder)
    assert "Traceback" not in stderr and "Exception ignored" not in stderr, stderr[-2000:]
    assert status in (0, 1, 2), f"status {status}: {stderr[-500:]}"
    if status == 0:
        assert may_succeed, f"accepted: {kind} {words}"
        assert redirection != ">/dev/full", "lost its output and said nothing"
        return
    if kind == "variable":
        raise AssertionError(f"refused: {stderr[-500:]}")
    lines = [line for line in stderr.splitlines() if line.startswith(("harness: ", "failed: "))]
    if "2>" not in redirection and redirection != "| true":
        assert lines, f"no line: {stderr[-1000:]!r}"
        check_line(lines[0], name)
    if command[0] != "run" and kind != "error":
        assert tree_sha256(store) == before or kind == "file-for-folder", "the store has changed"
    if kind == "error":
        _, stderr = _run(["store", "verify", "--store", str(store)], {**os.environ, "PYTHONPATH": environment["PYTHONPATH"]}, "", folder)
        assert "problems" not in stderr, f"the store is damaged: {stderr[-500:]}"


def _run(words: list[str], environment: dict[str, str | None], redirection: str, folder: Path) -> tuple[int, str]:
    """Return the exit status and the standard error of a command that runs in `folder`, which is deleted first if it is named "gone"."""
    line = shlex.join([sys.executable, "-m", "tests.fuzz.refusing_system", *words])
    if folder.name == "gone":
        line = f"rmdir {shlex.quote(str(folder))}; {line}"
    known = {name: value for name, value in environment.items() if value is not None}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{line} {redirection}"], env=known, cwd=folder, capture_output=True, check=False
    )
    return done.returncode, done.stderr.decode()


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
    """Return the files of a store with one unit of `RUN`'s model, by name."""
    from harness.runner.execute import execute
    from harness.runner.plan import plan_request
    from harness.runner.store import Store

    with tempfile.TemporaryDirectory() as folder:
        execute(plan_request(["cifar10-rn8s29-dense"], ["pgd-20"], "cifar10-sample", 2), Store(Path(folder)))
        return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


DOOR = Door("environments", full=100, ci=1, case=case)
