"""Tests of the hash of an object: it covers everything reachable from the object, and nothing else."""

import functools
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from model_zoo.object_hash import object_sha256


class Box:
    """An object with a value in a slot."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class Net(nn.Module):
    """A network with a value as a plain attribute."""

    def __init__(self, value: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 2)
        self.value = value


def closing_over(value: float) -> Callable[[float], float]:
    return lambda x: x * value


def scaled(value: float, x: float) -> float:
    return value * x


def by_default(value: float) -> Callable[[float], float]:
    def run(x: float, factor: float = value) -> float:
        return x * factor

    return run


def with_buffer(value: float) -> nn.Module:
    net = Net(0)
    net.register_buffer("extra", torch.tensor(value), persistent=False)
    return net


def with_hook(value: float) -> nn.Module:
    net = Net(0)
    net.register_forward_hook(lambda module, inputs, outputs: value * outputs)
    return net


CONTAINERS: list[Callable[[float], object]] = [
    lambda v: v,
    lambda v: [1, (2, {"a": {v}})],
    lambda v: torch.full((3,), v),
    lambda v: torch.full((3,), v).bfloat16(),
    lambda v: np.full(3, v),
    lambda v: [np.float32(v)],
    lambda v: {"deep": [Box(SimpleNamespace(x=v))]},
    closing_over,
    by_default,
    lambda v: functools.partial(scaled, v),
    lambda v: Box(v).__init__,
    lambda v: OrderedDict(a=torch.tensor([v])),
    lambda v: nn.ModuleList([Net(v)]),
    with_buffer,
    with_hook,
    lambda v: np.array([v, None], dtype=object),
]


@pytest.mark.parametrize("container", CONTAINERS)
def test_values_are_hashed_in_every_container(container: Callable[[float], object]) -> None:
    first, repeated, different = (object_sha256(Net(container(value))) for value in (1.0, 1.0, -1.0))
    assert first == repeated != different


def test_memory_addresses_and_cycles_do_not_matter() -> None:
    def ring() -> list[object]:
        items: list[object] = [object()]
        items.append(items)
        return items

    assert object_sha256(ring()) == object_sha256(ring())
    strided = torch.arange(6.0).reshape(2, 3).T
    assert object_sha256(strided) == object_sha256(strided.contiguous())


def test_types_are_distinguished() -> None:
    kinds = [1, 1.0, True, "1", b"1", [1], (1,), {1}, {1: 1}, torch.tensor(1), torch.tensor(1.0), np.array(1)]
    assert len({object_sha256(kind) for kind in kinds}) == len(kinds)


def test_classes_of_user_modules_are_hashed_with_their_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    before, without_classes = object_sha256(Net(0), [__name__]), object_sha256(Net(0))
    monkeypatch.setattr(Net, "power", 3, raising=False)
    after = object_sha256(Net(0), [__name__])
    monkeypatch.setattr(Net, "forward", closing_over(2.0))
    patched = object_sha256(Net(0), [__name__])
    assert len({before, after, patched}) == 3 and object_sha256(Net(0)) == without_classes


def test_a_compiled_network_has_the_hash_of_the_original() -> None:
    first, second = (torch.compile(Net(value), backend="eager") for value in (1.0, 2.0))
    assert object_sha256(first) == object_sha256(torch.compile(Net(1.0), backend="eager")) != object_sha256(second)
