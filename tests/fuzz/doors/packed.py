"""Door `packed`: packed checkpoints with every kind of weights, loaded through their records."""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load, save

from model_zoo.families import get_family
from model_zoo.packing.drawn import GENERATOR
from model_zoo.packing.frozen import freeze, weights_sha256
from model_zoo.packing.packed import pack
from model_zoo.packing.parts import file_parts
from model_zoo.recorded import load_recorded
from model_zoo.registry import write_record
from model_zoo.schema import Checkpoint, Record, Threat, TrainedOn
from model_zoo.training.building import build_model
from model_zoo.training.recipe import Recipe
from tests.fuzz.frame import Door, check_refused, command, refusal
from tests.fuzz.values import NUMBERS, damaged, nested, of_another_type, places, set_at, value_at

KINDS = ["valid", "damaged", "damaged", "damaged", "changed", "type", "type", "number", "missing", "unknown", "nested", "tensor", "tensor"]
ARCHITECTURE = {"name": "cifar-resnet8", "classes": 10, "width": 4, "normalisation": "cifar10"}
FAMILIES = {
    "dense": {},
    "dense-binary": {},
    "pruned-binary": {"keep_ratio": 0.1, "allocation_power": 0.1},
    "rst": {"keep_ratio": 0.1},
    "int8": {},
    "atmc": {"keep_ratio": 0.1, "pretrain_epochs": 1, "admm_epochs": 1},
}
NOT_IN_HEADERS = ("provenance",)


@dataclass(frozen=True)
class Sample:
    """A packed checkpoint, with its expected state."""

    content: bytes
    state: dict[str, torch.Tensor]
    record: dict[str, Any]

    def split(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the header and the tensors."""
        (length,) = struct.unpack("<Q", self.content[:8])
        metadata = json.loads(self.content[8 : 8 + length])["__metadata__"]
        return json.loads(metadata["harness"]), dict(load(self.content))


@cache
def _samples() -> tuple[Sample, ...]:
    samples = []
    for name, options in FAMILIES.items():
        family = get_family(name)
        recipe = Recipe.from_dict(
            {
                "id": "mine",
                "title": "",
                "family": name,
                "seed": 0,
                "architecture": ARCHITECTURE,
                "options": options,
                "data": {"dataset": "cifar10", "hold_out": 1},
                "attack": {"threat": "Linf 8/255", "method": "clean"},
                "optimiser": {"kind": "sgd", "learning_rate": 0.1, "epochs": 3, "batch": 2},
            }
        )
        model = build_model(recipe).eval()
        drawn = {"generator": GENERATOR, "seed": 0, "weight_init": "binary"}
        frozen = freeze(model, ARCHITECTURE, family.affine)
        record = {"affine": family.affine, "weights_sha256": weights_sha256(frozen)}
        for drawing in (None, drawn) if name == "pruned-binary" else (None,):
            content = pack(model, ARCHITECTURE, family.affine, {"id": "mine"}, drawing)
            samples.append(Sample(content, frozen.state_dict(), record))
    return tuple(samples)


def _joined(header: object, tensors: dict[str, np.ndarray]) -> bytes:
    return save(tensors, metadata={"harness": header if isinstance(header, str) else json.dumps(header)})


def _changed_tensors(random: Random, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return changed tensors that cannot be those of the model."""
    name = random.choice(sorted(tensors))
    array = tensors[name]
    change = random.choice(["dtype", "shape", "longer", "shorter", "drop", "extra", "nan"])
    if change == "nan" and array.dtype == np.float32 and array.size:
        array = array.copy()
        array[random.randrange(array.size)] = random.choice([np.nan, np.inf, -np.inf])
        return {**tensors, name: array}
    if change == "dtype":
        return {**tensors, name: array.astype(random.choice([kind for kind in (np.float64, np.int64, np.uint16) if kind != array.dtype]))}
    if change == "shape":
        return {**tensors, name: array.reshape(1, -1)}
    if change == "shorter" and array.size:
        return {**tensors, name: array[:-1]}
    if change == "drop":
        return {key: value for key, value in tensors.items() if key != name}
    if change == "extra":
        return {**tensors, "colour": array}
    return {**tensors, name: np.concatenate([array, np.ones(1, array.dtype)])}


def case(random: Random, folder: Path) -> None:
    """Create one file and a record with its hash and size, and load the model."""
    sample = random.choice(_samples())
    header, tensors = copy.deepcopy(sample.split())
    kind = random.choice(KINDS)
    content = sample.content
    is_mask = False
    must_fail = kind not in ("valid", "damaged")
    if kind == "valid":
        header["provenance"] = {"x": random.choice(["", "ü", "a" * 1000, None, 1e300])}
        content = _joined(dict(sorted(header.items(), key=lambda item: random.random())), tensors)
    elif kind in ("damaged", "changed"):
        content = damaged(random, content)
    elif kind in ("type", "number"):
        options = [place for place in places(header) if place[0] not in NOT_IN_HEADERS]
        place = random.choice(options)
        old = value_at(header, place)
        new = of_another_type(random, old) if kind == "type" else random.choice(NUMBERS)
        # Seeds that are equal modulo 2^32 give the same signs.
        must_fail = place != ("drawn", "seed") and (new != old or isinstance(new, bool) != isinstance(old, bool))
        set_at(header, place, new)
        content = _joined(header, tensors)
    elif kind == "missing":
        del header[random.choice(["format", "version", "architecture", "affine", "weights"])]
        content = _joined(header, tensors)
    elif kind == "unknown":
        header[random.choice(["colour", "weights_sha256" if "weights_sha256" not in header else "color"])] = "red"
        content = _joined(header, tensors)
    elif kind == "nested":
        text = nested(random) if random.random() < 0.5 else nested(random, '{"a":', "}").replace('{"a":}', '{"a":1}')
        header_bytes = f'{{"__metadata__":{text}}}'.encode()
        content = random.choice(
            [_joined(text, tensors), _joined(f'{{"format":{text}}}', tensors), struct.pack("<Q", len(header_bytes)) + header_bytes]
        )
    elif kind == "tensor":
        changed = _changed_tensors(random, tensors)
        is_mask = "mask" in changed and changed["mask"] is not tensors["mask"] and changed["mask"].dtype == np.uint32
        content = _joined(header, changed)

    path = folder / "mine.safetensors"
    path.write_bytes(content)
    # A file that differs from its record is rejected by the hash.
    described = sample.content if kind == "changed" else content
    checkpoint = Checkpoint(file=path.name, sha256=hashlib.sha256(described).hexdigest(), bytes=max(len(described), 1))
    record = Record(
        id="mine",
        title="",
        family="dense",
        method="",
        architecture=ARCHITECTURE,
        weight_bits=32,
        activation_bits=32,
        backward="exact",
        data=TrainedOn(train="cifar10"),
        threat=Threat(norm="Linf", radius="8/255"),
        checkpoint=checkpoint,
        **sample.record,
    )
    loaded: list[torch.nn.Module] = []
    error = refusal(lambda: loaded.append(load_recorded(record, path)), path.name)
    # Words at the end of a coded mask can be redundant; the weights are compared below.
    assert error is not None or not must_fail or is_mask, f"accepted: {kind} {header}"
    if kind == "valid":
        assert error is None, f"refused: {error}"
        assert sum(file_parts(path).values()) == len(content)
    if error is None:
        state = loaded[0].state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in sample.state.items()), "read as another model"
    else:
        refusal(lambda: file_parts(path), path.name)
        if random.random() < 0.01:
            write_record(record, folder)
            check_refused(command(random.choice(["show", "footprint"]), folder / "mine.toml"), path.name)


DOOR = Door("packed", full=2_500, ci=40, case=case)
