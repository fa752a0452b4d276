"""Tests that signals that arrive during a write are delivered after it."""

import os
import signal
import subprocess
import sys

import pytest

from harness.cli.surroundings import termination_interrupts
from harness.runner.signals import deferred_signals, ignored


def test_an_interrupt_is_delivered_after_the_block() -> None:
    written = []
    with pytest.raises(KeyboardInterrupt):  # noqa: SIM117 - what comes after the signal is the point
        with deferred_signals():
            os.kill(os.getpid(), signal.SIGINT)
            written.append("the rest")
    assert written == ["the rest"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_termination_is_delivered_after_the_block() -> None:
    code = (
        "import os, signal, sys\nfrom harness.runner.signals import deferred_signals\n"
        "with deferred_signals():\n    os.kill(os.getpid(), signal.SIGTERM)\n    print('written', flush=True)\nprint('not reached')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert process.stdout == "written\n" and process.returncode == -signal.SIGTERM


def test_an_ignored_signal_is_lost_and_later_ones_are_delivered() -> None:
    with ignored(signal.SIGINT):
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_termination_of_a_command_is_an_interrupt_even_in_the_background() -> None:
    with ignored(signal.SIGINT), pytest.raises(KeyboardInterrupt), termination_interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
