"""Door `networks`: users' Python files with unusual networks, and code that raises, prints, returns other types or changes settings."""

from __future__ import annotations

import os
import random as python_random
import signal
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from model_zoo.references import parse
from tests.fuzz.frame import Door, refusal

FILE = """
import asyncio, os, random, sys, warnings
import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune
{imported}

class Odd(Exception):
    def __str__(self):
        raise {odd}("no text")

class Rude(BaseException):
    pass

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 10))

    def forward(self, images):
        logits = self.body(images)
        {called}
        return {result}

{decorator}def make({arguments}):
    network = Net()
    {made}
    return {network}
"""
DEFAULTS = {
    "imported": "",
    "odd": "ValueError",
    "called": "pass",
    "result": "logits",
    "decorator": "",
    "arguments": "",
    "made": "pass",
    "network": "network",
}
# Statements that raise, with words of the expected message.
RAISES = {
    'raise ValueError("several\\nlines")': "ValueError: several",
    'raise KeyError("\\x1b[31m" + "a" * 5000)': "KeyError",
    "raise SystemExit(0)": "SystemExit",
    "sys.exit()": "SystemExit",
    "os._exit(0)": "SystemExit",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise GeneratorExit": "GeneratorExit",
    "raise StopIteration": "StopIteration",
    "raise RecursionError": "RecursionError",
    "raise asyncio.CancelledError": "CancelledError",
    "raise BrokenPipeError": "BrokenPipeError",
    'raise type("E" * 5000, (Exception,), {})("x")': "EEE",
    "1 / 0": "ZeroDivisionError",
    "raise ExceptionGroup('several', [ValueError(1), KeyError(2)])": "ExceptionGroup",
    "import no_such_module": "no_such_module",
    "assert False": "AssertionError",
    "(lambda f: f(f))(lambda f: f(f))": "RecursionError",
}
# Statements that change settings of the process; all of these must be restored.
CHANGES = (
    "torch.set_default_dtype(torch.float64)",
    "torch.set_default_device('meta')",
    "torch.set_grad_enabled(False)",
    "torch.manual_seed(7)",
    "np.random.seed(7)",
    "random.seed(7)",
    "os.chdir('/')",
    "sys.stdout = None",
    "sys.path.insert(0, '/')",
    "sys.modules['json'] = None",
    "torch.use_deterministic_algorithms(True)",
    "torch.set_num_threads(3)",
    "torch.autograd.set_detect_anomaly(True)",
    "np.seterr(all='raise')",
    "sys.setrecursionlimit(500)",
    "warnings.simplefilter('error')",
)
# Expressions that do not return logits, with words of the expected message.
RESULTS = {
    "(logits,)": "tuple",
    "{'logits': logits}": "dict",
    "[logits]": "list",
    "None": "NoneType",
    "logits.detach().numpy()": "ndarray",
    "logits.long()": "int64",
    "logits > 0": "bool",
    "logits.to(torch.complex64)": "complex64",
    "logits[:1]": "[1, 10]",
    "torch.cat([logits, logits])": "[4, 10]",
    "logits.flatten()": "[20]",
    "logits[..., None, None]": "[2, 10, 1, 1]",
    "logits.to('meta')": "meta",
    "logits.to_sparse()": "sparse",
    "logits.detach()": "gradient",
    "logits[:, :0]": "classes",
}
# Expressions that are not usable networks, with words of the expected message.
NETWORKS = {
    "5": "returns int",
    "None": "returns NoneType",
    "Net": "returns type",
    "[network]": "returns list",
    "network.state_dict()": "returns OrderedDict",
    "lambda images: network(images)": "returns function",
    "network.to('meta')": "meta",
    "nn.Sequential(nn.LazyConv2d(4, 5), nn.Flatten(), nn.LazyLinear(10))": "lazy",
    "nn.Sequential(nn.Flatten(), nn.Linear(100, 10))": "square images",
    "nn.Sequential()": "logits",
}
# Expressions of usable networks, with the factor of their logits.
WORKING = {
    "network": 1.0,
    "nn.DataParallel(network)": 1.0,
    "torch.compile(network, backend='eager')": 1.0,
    "network.half()": 1.0,
    "network.double()": 1.0,
    "torch.jit.script(network.body)": 1.0,
    "torch.fx.symbolic_trace(network)": 1.0,
    "nn.utils.parametrizations.weight_norm(network.body[3]) and network": 1.0,
    "prune.l1_unstructured(network.body[3], 'weight', 0.0) and network": 1.0,
}


def case(random: Random, folder: Path) -> None:
    """Open one file; check the logits or the error, and that the state of the process is unchanged."""
    kind = random.choice(("raises", "raises", "changes", "result", "network", "working", "odd"))
    path = folder / random.choice(["net.py", "my-net.py", "model_zoo.py", "harness.py", "torch_net.py"])
    if kind == "raises":
        statement, words = random.choice(list(RAISES.items()))
        fields = {random.choice(("imported", "called", "made")): statement}
    elif kind == "odd":
        fields = {
            "odd": random.choice(("ValueError", "SystemExit", "KeyboardInterrupt", "Rude")),
            random.choice(("called", "made")): "raise Odd",
        }
        words = "Odd"
    elif kind == "changes":
        fields, words = {random.choice(("imported", "called", "made")): random.choice(CHANGES)}, None
    elif kind == "result":
        result, words = random.choice(list(RESULTS.items()))
        fields = {"result": result}
    elif kind == "network":
        network, words = random.choice([*NETWORKS.items(), ("argument", "argument"), ("async", "coroutine"), ("generator", "generator")])
        fields = {
            "argument": {"arguments": "classes"},
            "async": {"decorator": "async "},
            "generator": {"made": "yield 1"},
        }.get(network, {"network": network})
    else:
        fields, words = {"network": random.choice(list(WORKING))}, None
    if random.random() < 0.2:
        fields.setdefault("made", "print('\\x1b[31m' * 10_000)")
    path.write_text(FILE.format(**{**DEFAULTS, **fields}))
    before = process_state()
    opened: list[Any] = []
    error = refusal(lambda: opened.append(parse(f"{path}:make").open()), path.name)
    after = process_state()
    changed = [name for name in before if before[name] != after[name]]
    restore(before)
    assert not changed, f"{fields}: not as before: {changed}"
    if words is not None:
        assert error is not None, f"accepted: {fields}"
        assert words in str(error), f"{fields}: {words!r} is expected in: {error}"
    if kind == "working":
        assert error is None, f"{fields}: refused: {error}"
        _check_logits(path, *opened[0])


def _check_logits(path: Path, description: Any, model: Any) -> None:
    """Check that the logits equal those of the plain network, whose weights come from the same seed."""
    plain_path = path.with_name("plain.py")
    plain_path.write_text(FILE.format(**DEFAULTS))
    plain, expected = parse(f"{plain_path}:make").open()
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = float((model(images) - expected(images)).abs().max())
    assert difference <= 0.01, f"other logits, by {difference}"
    assert description.classes == plain.classes == 10 and description.size == 32 and description.bytes > 0


def process_state() -> dict[str, Any]:
    """Return the state of the process that user code must not change."""
    return {
        "type": torch.get_default_dtype(),
        "device": str(torch.get_default_device()),
        "gradients": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomalies": torch.is_anomaly_enabled(),
        "torch's numbers": torch.get_rng_state().numpy().tobytes(),
        "numpy's numbers": np.random.get_state()[1].tobytes(),  # type: ignore[index, union-attr]
        "python's numbers": python_random.getstate(),
        "folder": str(Path.cwd()),
        "output": sys.stdout,
        "path": list(sys.path),
        "modules": sys.modules.get("json"),
        "floats": np.geterr(),
        "depth": sys.getrecursionlimit(),
        "exit": os._exit,
        "signals": signal.getsignal(signal.SIGINT),
    }


def restore(before: dict[str, Any]) -> None:
    """Restore the state of the process after a failed case."""
    torch.set_default_dtype(before["type"])
    torch.set_default_device(None if before["device"] == "cpu" else before["device"])
    torch.set_grad_enabled(before["gradients"])
    torch.set_num_threads(before["threads"])
    torch.use_deterministic_algorithms(before["deterministic"])
    torch.autograd.set_detect_anomaly(before["anomalies"])
    np.seterr(**before["floats"])
    sys.setrecursionlimit(before["depth"])
    os.chdir(before["folder"])
    sys.stdout, sys.path[:], sys.modules["json"] = before["output"], before["path"], before["modules"]


DOOR = Door("networks", full=200, ci=15, case=case)
