"""Tests that commands report errors of the operating system as one line that names the file."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from harness.cli.main import Main

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
# A command that imports neither torch nor pandas.
COMMAND = f"{sys.executable} -m harness.cli.main --help"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/a/b"), "harness: /a/b: Read-only file system"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", b"/a/b"), "harness: /a/b: Not a directory"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory"), f"harness: in {Path.cwd()}: No usable temporary directory"),
        (MemoryError(), "harness: out of memory"),
        (
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            "harness: out of memory (libtorch_cpu.so: failed to map segment from shared object)",
        ),
        (RuntimeError("can't start new thread"), "harness: out of memory (can't start new thread)"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: x"), "harness: out of memory (DefaultCPUAllocator: not enough memory: x)"),
    ],
)
def test_a_system_error_is_one_line(error: Exception, line: str) -> None:
    group = Main("harness", commands={})

    def fail() -> None:
        raise error

    group.get_command = lambda ctx, cmd_name: click.Command("fail", callback=fail)  # type: ignore[method-assign]
    group.lines["fail"] = ""
    result = CliRunner().invoke(group, ["fail"])
    assert (result.exit_code, result.stderr) == (1, line + "\n")


@pytest.mark.parametrize(
    ("redirection", "status", "stderr"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        (">/dev/full", 1, "harness: standard output: No space left on device\n"),
    ],
)
def test_closed_and_full_streams(redirection: str, status: int, stderr: str) -> None:
    done = subprocess.run(["bash", "-c", f"{COMMAND} {redirection}"], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, stderr)
