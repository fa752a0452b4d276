"""A network made by a Python function that its user names: `FILE.py:FUNCTION`, with or without a file of weights.

The function runs with all rights of whoever names it; a file of weights is read and never unpickled.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import re
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from model_zoo.errors import DamagedFileError, UsageError, UserError


def make(path: Path, function: str, checkpoint: Path | None = None) -> nn.Module:
    """Call a function without arguments that makes a network, and fill in the weights of a file; frozen, in eval mode.

    It is called with torch's generator seeded, so that a network of weights drawn at random is the same one every time.

    Raises
    ------
    UsageError
        If there is no such file or function.
    UserError
        If the function fails, or makes something else than a network.
    DamagedFileError
        If the file of weights cannot be read, or does not hold exactly the network's tensors.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}")
    # Under a name of its own, so that files of one name do not meet; layers find the file they are defined in through it.
    name = f"harness_factory_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    paths = list(sys.path)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            spec.loader.exec_module(module)
            made = getattr(module, function, None)
            if not callable(made):
                raise UsageError(f"{path} has no function {function!r}")
            model = made()
    except UserError:
        raise
    except Exception as error:
        # It is the user's own code: anything may come out of it.
        raise UserError(f"{path}:{function} failed: {type(error).__name__}: {error}".splitlines()[0]) from None
    finally:
        sys.path[:] = paths
    if not isinstance(model, nn.Module):
        raise UserError(f"{path}:{function} returns {type(model).__name__}, not a torch module")
    if checkpoint is not None:
        _fill(model, checkpoint)
    return model.eval().requires_grad_(False)


def fingerprint(path: Path, model: nn.Module) -> str:
    """Hash of what can be told of a network's code: its file, the files that define its layers (torch's own aside), and its printed form.

    What else these files import is not covered.
    """
    files = {path.resolve()}
    for kind in {type(module) for module in model.modules()}:
        if kind.__module__.split(".")[0] != "torch":
            source = getattr(sys.modules.get(kind.__module__), "__file__", None)
            files |= {Path(source).resolve()} if source else set()
    contents = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    printed = re.sub(r"0x[0-9a-fA-F]+", "", repr(model))
    return hashlib.sha256("\n".join([*contents, printed]).encode()).hexdigest()


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, or of a state dict that torch has saved, alone or under "state_dict"; nothing is unpickled.

    Raises
    ------
    UsageError
        If there is no such file.
    DamagedFileError
        If it holds anything else.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # torch's own words advise reading the file all the same, which would execute what is in it.
        raise DamagedFileError(path, "a state dict of tensors alone", "another file, or objects that would have to be executed") from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError):
        raise DamagedFileError(path, "a state dict that can be read", "another file, or one cut short") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(item, torch.Tensor) for item in state.values()):
        raise DamagedFileError(path, "a state dict of tensors", "something else")
    return state


def _fill(model: nn.Module, path: Path) -> None:
    state, own = read_state(path), model.state_dict()
    for name in sorted(own.keys() - state.keys()):
        raise DamagedFileError(path, f"a tensor {name!r}", "none of that name")
    for name in sorted(state.keys() - own.keys()):
        raise DamagedFileError(path, "the tensors of the network", f"also {name!r}")
    for name, tensor in own.items():
        if state[name].shape != tensor.shape:
            raise DamagedFileError(path, f"{name!r} of shape {list(tensor.shape)}", f"{list(state[name].shape)}")
    model.load_state_dict(state)
