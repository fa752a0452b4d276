"""Tests of user code that fails in any way: one error line, a traceback in the store and a nonzero exit status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

import harness
from harness.cli.main import main
from harness.runner.claims import Claims
from harness.runner.execute import Event, execute
from harness.runner.plan import plan_request
from harness.runner.store import Store
from model_zoo.errors import UserError

DENSE = "cifar10-rn8s29-dense"
FILE = """
import os, sys, ctypes
from torch import nn

class Net(nn.Module):
    def __init__(self, end):
        super().__init__()
        self.layer = nn.Linear(3072, 10)
        # Right about the first image, so that there is something to attack.
        self.layer.bias.data[3] += 5
        self.end, self.calls = end, 0

    def forward(self, images):
        self.calls += 1
        if self.calls > 40:
            self.end()
        return self.layer(images.flatten(1))

def raises():
    def end():
        raise LookupError("not here")
    return Net(end)

def leaves():
    return Net(lambda: sys.exit(0))

def interrupts():
    def end():
        raise KeyboardInterrupt
    return Net(end)

def ends():
    return Net(lambda: os._exit(0))

def at_import():
    sys.exit(0)

def at_once():
    os._exit(0)

def really_ends():
    return Net(lambda: ctypes.CDLL(None)._exit(0))
"""


def compare(function: str) -> Result:
    options = ("--against", DENSE, "--suite", "smoke", "--n", "4", "--workers", "1")
    return CliRunner().invoke(main, ["compare", f"bad.py:{function}", *options])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bad.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("function", "words"),
    [("raises", "LookupError: not here"), ("leaves", "SystemExit: 0"), ("interrupts", "KeyboardInterrupt"), ("ends", "os._exit(0)")],
)
def test_a_failed_unit_is_one_line_and_its_traceback_is_stored(function: str, words: str, folder: Path) -> None:
    result = compare(function)
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 3 and all(words in line for line in lines)
    assert "Traceback" not in result.stderr and "3 failed" in result.stderr
    failures = [json.loads(path.read_text()) for path in (folder / "results" / "failed").iterdir()]
    assert len(failures) == 3 and all("Traceback" in failure["traceback"] and "bad.py" in failure["traceback"] for failure in failures)


@pytest.mark.parametrize("function", ["at_import", "at_once"])
def test_a_function_that_exits_the_process_is_one_line(function: str) -> None:
    result = compare(function)
    assert result.exit_code == 1 and "failed: SystemExit" in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_worker_ended_by_user_code_is_reported_by_the_parent(folder: Path) -> None:
    plan = plan_request([f"{folder}/bad.py:really_ends"], ["pgd"], "cifar10-sample", 2)
    report = execute(plan, Store(folder / "results"), executor="processes")
    assert len(report.failed) == 1 and "worker died 3 times (out of memory, or ended by the model's code?)" in report.failed[0][1]


def test_a_run_reports_that_the_previous_one_was_interrupted(folder: Path) -> None:
    plan, store = plan_request([DENSE], ["pgd"], "cifar10-sample", 2), Store(folder / "results")
    code = (
        f"import os\nfrom pathlib import Path\nfrom harness.runner.claims import Claims\nc = Claims(Path({str(store.claims.folder)!r}))\n"
    )
    subprocess.run([sys.executable, "-c", f"{code}claim = c.claimed({plan.units[0].id!r})\nclaim.__enter__()\nos._exit(0)"], check=True)
    assert [claim.unit for claim in Claims(store.claims.folder).abandoned()] == plan.ids
    events: list[Event] = []
    execute(plan, store, events.append)
    assert [event.kind for event in events if event.kind in ("ended", "finished")] == ["ended", "finished"]
    assert not store.claims.abandoned()


def test_another_network_with_the_same_identity_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "outside.py").write_text(
        "import os\nfrom torch import nn\n\nclass Net(nn.Sequential):\n    def forward(self, images):\n"
        "        return float(os.environ['FACTOR']) * super().forward(images)\n\n"
        "def make():\n    return Net(nn.Conv2d(3, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 10))\n"
    )
    model = f"{folder}/outside.py:make"
    monkeypatch.setenv("FACTOR", "1")
    first = harness.evaluate(model, n=2, store="results")
    assert harness.evaluate(model, n=2, store="results").equals(first)
    monkeypatch.setenv("FACTOR", "-1")
    for attack in ("pgd", "cw-linf"):
        with pytest.raises(UserError, match="same code and weights but other"):
            harness.evaluate(model, attack=attack, n=2, store="results")
    options = ("--against", DENSE, "--suite", "smoke", "--n", "2", "--workers", "1")
    result = CliRunner().invoke(main, ["compare", model, *options])
    assert result.exit_code == 1 and "same code and weights but other" in result.stderr


ODD = """
from torch import nn

class Net(nn.Linear):
    def forward(self, images):
        return super().forward(images.flatten(1))

    def state_dict(self, *arguments, **named):
        raise SystemExit(0)

class Moving(Net):
    state_dict = nn.Module.state_dict

    def _apply(self, *arguments):
        raise LookupError("stays")

def make():
    return Net(3072, 10)

def moving():
    return Moving(3072, 10)
"""


@pytest.mark.parametrize(("function", "words"), [("make", "SystemExit: 0"), ("moving", "LookupError: stays")])
def test_methods_other_than_forward_may_fail(function: str, words: str, folder: Path) -> None:
    (folder / "odd.py").write_text(ODD)
    result = CliRunner().invoke(main, ["compare", f"odd.py:{function}", "--suite", "smoke", "--n", "2", "--workers", "1"])
    assert result.exit_code == 1 and words in result.stderr and "Traceback" not in result.stderr, result.output
    assert not isinstance(result.exception, LookupError)


LATER = """
import random, sys
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, first):
        super().__init__()
        self.layer, self.first, self.calls = nn.Linear(3072, 10), first, 0

    def forward(self, images):
        self.calls += 1
        if self.calls > self.first:
            raise SystemExit("later")
        return self.layer(images.flatten(1))

def make():
    return Net(FIRST)
"""


@pytest.mark.needs_onnx
@pytest.mark.parametrize("first", [0, 12, 60])
def test_add_reports_an_exit_of_a_network_whenever_it_comes(first: int, folder: Path) -> None:
    (folder / "later.py").write_text(LATER.replace("FIRST", str(first)))
    state = torch.get_rng_state()
    fields = "--id mine --family dense --method x --weight-bits 32 --dataset cifar10 --radius 8/255"
    result = CliRunner().invoke(main, ["add", "later.py:make", *fields.split()])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert len(result.stderr.splitlines()) == (1 if result.exit_code else 2) and "Traceback" not in result.stderr
    assert result.exit_code or first == 60
    assert torch.equal(torch.get_rng_state(), state)
