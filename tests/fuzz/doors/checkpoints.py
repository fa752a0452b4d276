"""Door `checkpoints`: weight files for a user's network in many forms, damaged, of another network, or containing code."""

from __future__ import annotations

import argparse
import datetime
import gzip
import os
import pickle
import subprocess
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from model_zoo.adapters.user_weights import fill_user_network
from tests.fuzz.frame import Door, refusal
from tests.fuzz.values import TEXTS, damaged

State = dict[str, Any]
WEIGHT = "4.weight"
COUNT = "1.num_batches_tracked"
FLOATS = (torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2)
NOT_FLOATS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool, torch.complex64)
PREFIXES = ("", "", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model.", "net.encoder.")
PLACES = ((), ("net",), ("model",), ("model_state_dict",), ("state_dict",), ("ema", "weights"), ("a", "b", "c"), (0,), ("x\ny",))


class Settings:
    """Object of a class that is not available to readers."""

    def __init__(self) -> None:
        self.rate = 0.1


class Config(dict[str, object]):
    """Dictionary of a class that is not available to readers, with attributes."""

    def __init__(self) -> None:
        super().__init__(rate=0.1, steps=[1, 2])
        self.path = "config"


class Command:
    """Object that calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


def network() -> nn.Sequential:
    """Return a network with random weights."""
    return nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 10))


def case(random: Random, folder: Path) -> None:
    """Load one file into a network and compare its tensors with the written ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random.getrandbits(32))
        state: State = dict(network().state_dict())
        filled = network()
    path = folder / random.choice(["weights.pt", "weights.pth", "best.ckpt", "weights.bin"])
    random.choices((_published, _misfit, _damaged, _coded, _another), (4, 3, 4, 3, 1))[0](random, path, state, filled)
    assert not (folder / "executed").exists(), "code in the file was executed"


def _published(random: Random, path: Path, state: State, filled: nn.Module) -> None:
    """Write a matching file; its tensors must be read exactly."""
    stored = _layout(random, _as_floats(random, state))
    if random.random() < 0.3:
        del stored[COUNT]
    if random.random() < 0.1:
        save_file({name: tensor.detach().contiguous() for name, tensor in _prefixed(random, stored).items()}, path)
    else:
        # torch cannot read eight-bit floats that it wrote in the legacy format.
        _save(random, _content(random, stored), path, any(tensor.dtype == torch.float8_e5m2 for tensor in stored.values()))
    error = refusal(lambda: fill_user_network(filled, path), path.name)
    assert error is None, f"refused: {error}"
    _check_read(filled, stored)


def _misfit(random: Random, path: Path, state: State, filled: nn.Module) -> None:
    """Write tensors of another network or of a wrong type: the file is rejected, and the network does not change."""
    before = {name: tensor.clone() for name, tensor in filled.state_dict().items()}
    name = random.choice([name for name in state if name != COUNT])
    tensor = state[name]
    words = repr(name)
    kind = random.choice(("type", "count", "shape", "missing", "extra", "quantised", "twice", "empty", "meta", "list"))
    if kind == "type":
        number_type = random.choice(NOT_FLOATS)
        state[name] = (100 * tensor).to(number_type)
        words = str(number_type).removeprefix("torch.")
    elif kind == "count":
        state[COUNT], words = torch.tensor(3.0), "float32"
    elif kind == "shape":
        state[name] = random.choice((torch.cat([tensor, tensor]), tensor[:0], tensor[None], tensor[:1].expand(10**6, *tensor.shape[1:])))
        words = "shape"
    elif kind == "missing":
        del state[name]
    elif kind == "extra":
        state[f"9.{random.choice(TEXTS)}bias"], words = torch.zeros(2), "additional"
    elif kind == "quantised":
        state[name], words = torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "quantised"
    elif kind == "meta":
        state[name], words = tensor.to("meta"), "meta"
    content = {
        "twice": lambda: {"model": state, "ema": {key: value + 1 for key, value in state.items()}},
        "empty": lambda: {"epoch": 3, "names": list(state)},
        "list": lambda: {"state_dict": [state, state]},
    }.get(kind, lambda: _content(random, state))()
    words = {"twice": "one set", "empty": "something else", "list": "something else"}.get(kind, words)
    _save(random, content, path)
    error = refusal(lambda: fill_user_network(filled, path), path.name)
    assert error is not None, f"accepted: {kind} of {name}"
    assert words in str(error), f"{words!r} is expected in: {error}"
    assert all(torch.equal(tensor, before[name]) for name, tensor in filled.state_dict().items()), "the network was changed"


def _damaged(random: Random, path: Path, state: State, filled: nn.Module) -> None:
    """Write a damaged file: it is rejected or read unchanged; only archives have checksums."""
    stored = _layout(random, state)
    is_archive = random.random() < 0.7
    torch.save(_content(random, stored), path, _use_new_zipfile_serialization=is_archive)
    content = path.read_bytes()
    for _ in range(random.choice((1, 1, 1, 4))):
        content = damaged(random, content) if content else content
    path.write_bytes(content)
    if refusal(lambda: fill_user_network(filled, path), path.name) is None and is_archive:
        _check_read(filled, stored)


def _coded(random: Random, path: Path, state: State, filled: nn.Module) -> None:
    """Write a file that runs code if it is unpickled: no code runs, and the tensors that are read are the written ones."""
    target = str(path.parent / "executed")
    payload = random.choice(
        (
            Command(os.system, f"touch {target}"),
            Command(eval, f"open({target!r}, 'w')"),
            Command(exec, f"open({target!r}, 'w')"),
            Command(subprocess.Popen, ["touch", target]),
            Command(open, target, "w"),
            Command(Path.touch, Path(target)),
            Command(torch.save, {}, target),
            Command(np.save, target, np.zeros(1)),
            Command(__import__, "os"),
        )
    )
    name = random.choice(list(state))
    content: Any = random.choice(
        (
            {"state_dict": state, "args": payload},
            {**state, "extra": payload},
            {**state, name: payload},
            {"state_dict": state, "args": [argparse.Namespace(run=payload)]},
            [state, payload],
            payload,
        )
    )
    if random.random() < 0.2:
        path.write_bytes(pickle.dumps(content, protocol=random.randrange(6)))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=random.random() < 0.5, pickle_protocol=random.randint(2, 5))
    if refusal(lambda: fill_user_network(filled, path), path.name) is None:
        _check_read(filled, state)


def _another(random: Random, path: Path, state: State, filled: nn.Module) -> None:
    """Write a file without weights: it is rejected, and the message names its kind."""
    content, words = random.choice(
        (
            (b"", "empty"),
            (b"\xef\xbb\xbf\n<!DOCTYPE html><title>Sign in</title>", "web page"),
            (b"<HTML><body>quota exceeded", "web page"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "LFS"),
            (b'{"message": "Not Found"}', "JSON"),
            (b"see the release page\n", "text"),
            (gzip.compress(b"weights"), "gzip"),
            (b"PK\x03\x04" + random.randbytes(40), "cut short"),
            (bytes(random.randint(1, 1000)), "another file"),
            (pickle.dumps([1, 2]), "found"),
            (pickle.dumps("[" * random.choice((10, 100_000))), "found"),
            (b"\x80\x02" + b"(" * 100_000, "found"),
            (b"\x80\x02" + b"]" + b"]a" * 1 + b"." * random.randrange(2), "found"),
        )
    )
    path.write_bytes(content)
    error = refusal(lambda: fill_user_network(filled, path), path.name)
    assert error is not None and words in str(error), f"{words!r} is expected in: {error}"


def _as_floats(random: Random, state: State) -> State:
    """Return the state with floats of one common precision, or each of a random one."""
    common = random.choice(FLOATS) if random.random() < 0.7 else None
    return {name: tensor.to(common or random.choice(FLOATS)) if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def _layout(random: Random, state: State) -> State:
    """Return equal tensors in another layout: slices of a larger tensor, other strides, parameters."""

    def changed(tensor: torch.Tensor) -> torch.Tensor:
        kind = random.choice(("as it is", "as it is", "part", "strides", "parameter"))
        if kind == "part" and tensor.ndim:
            return torch.cat([tensor, tensor])[len(tensor) :]
        if kind == "strides" and tensor.ndim > 1:
            return tensor.transpose(0, 1).contiguous().transpose(0, 1)
        if kind == "parameter" and tensor.is_floating_point():
            return nn.Parameter(tensor)
        return tensor

    return {name: changed(tensor) for name, tensor in state.items()}


def _prefixed(random: Random, state: State) -> State:
    prefix = random.choice(PREFIXES)
    return {prefix + name: tensor for name, tensor in state.items()}


def _content(random: Random, state: State) -> Any:
    """Return the content of a file with these tensors under some keys, together with other objects."""
    content: Any = _prefixed(random, state)
    place = random.choice(PLACES)
    for key in reversed(place):
        if random.random() < 0.2:
            content = random.choice(([content], (content,)))
        content = {key: content}
    if place:
        content |= {
            name: _extra(random) for name in random.sample(("acc", "epoch", "args", "optimizer", "best", "log"), random.randrange(4))
        }
    if random.random() < 0.05:
        content["again"] = content
    return content


def _extra(random: Random) -> Any:
    return random.choice(
        (
            np.float64(69.2),
            np.float32(3),
            np.int64(7),
            np.bool_(True),
            argparse.Namespace(lr=0.1, milestones=[1, 2]),
            datetime.datetime(2026, 1, 1),
            Path("runs"),
            Settings(),
            Config(),
            defaultdict(list, a=[1]),
            deque([1, 2], maxlen=4),
            np.random.get_state(),
            {"state": {}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]},
            {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(4)}}},
            random.choice(TEXTS),
            10**40,
            None,
            [[[[]]]] * 3,
            {1, 2},
            np.arange(4.0),
            torch.zeros(3),
            torch.device("cpu"),
            torch.Size([1, 2]),
            torch.float16,
        )
    )


def _save(random: Random, content: object, path: Path, is_archive: bool = False) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=is_archive or random.random() < 0.7)


def _check_read(filled: nn.Module, stored: State) -> None:
    """Check that the network has exactly the stored tensors, with floats cast to float32."""
    read = filled.state_dict()
    for name, tensor in stored.items():
        assert torch.equal(read[name], tensor.detach().to(read[name].dtype)), f"{name} is another tensor"
    assert all(parameter.dtype == torch.float32 for parameter in filled.parameters())


DOOR = Door("checkpoints", full=8_000, ci=60, case=case)
