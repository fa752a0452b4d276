"""Door `onnx`: many kinds of ONNX files, each with its expected logits or words of the expected error, and damaged ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from model_zoo.adapters.preprocessing import NO_PREPROCESSING, Preprocessing
from model_zoo.references import parse
from tests.fuzz.frame import Door, refusal
from tests.fuzz.values import TEXTS, damaged

FLOAT, UINT8, INT32, INT64, BOOL, FLOAT16, DOUBLE = 1, 2, 6, 7, 9, 10, 11
RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(8, 3, 5, 5)).astype(np.float32)
LAST = (RANDOM.normal(size=(10, 392)) / 20).astype(np.float32)
IMAGES = torch.from_numpy(RANDOM.integers(0, 256, (5, 3, 32, 32))).float() / 255
SCALE = np.float32(np.abs(WEIGHT).max() / 127)
LEVELS = np.round(WEIGHT / SCALE).astype(np.int8)


@dataclass
class Network:
    """Parts of an ONNX file, with the expected result.

    Attributes
    ----------
    nodes, weights, inputs, outputs : list, dict, list, list
        Content of the file; inputs and outputs are (name, type, shape).
    preprocessing : Preprocessing
        Preprocessing that is declared with the file.
    logits : callable or None
        Function from images to the expected logits; None if the file must be rejected.
    words : str
        Words of the expected error.
    """

    nodes: list[Any]
    weights: dict[str, np.ndarray]
    inputs: list[tuple[str, int, Sequence[int | str]]] = field(default_factory=lambda: [("x", FLOAT, ("N", 3, 32, 32))])
    outputs: list[tuple[str, int, Sequence[int | str]]] = field(default_factory=lambda: [("y", FLOAT, ("N", 10))])
    preprocessing: Preprocessing = NO_PREPROCESSING
    logits: Callable[[torch.Tensor], torch.Tensor] | None = None
    words: str = ""
    tolerance: float = 1e-3


def node(kind: str, inputs: Sequence[str], outputs: str | Sequence[str], **attributes: Any) -> Any:
    """Return a node; `outputs` is one name or several names."""
    from onnx import helper

    return helper.make_node(kind, list(inputs), [outputs] if isinstance(outputs, str) else list(outputs), **attributes)


def logits_of(images: torch.Tensor) -> torch.Tensor:
    """Return the logits of the plain network."""
    hidden = torch.nn.functional.conv2d(images, torch.from_numpy(WEIGHT), stride=4).relu()
    return hidden.flatten(1) @ torch.from_numpy(LAST).T


def convolution(source: str, weight: str = "W") -> Any:
    """Return the first layer."""
    return node("Conv", [source, weight], "c", strides=[4, 4], kernel_shape=[5, 5])


def tail(source: str = "c", result: str = "y") -> list[Any]:
    """Return the layers after the convolution."""
    return [node("Relu", [source], "r"), node("Flatten", ["r"], "f"), node("Gemm", ["f", "L"], result, transB=1)]


def plain(**changes: Any) -> Network:
    """Return a valid network with some parts changed."""
    fields: dict[str, Any] = {"nodes": [convolution("x"), *tail()], "weights": {"W": WEIGHT, "L": LAST}, "logits": logits_of}
    return Network(**{**fields, **changes})


def refused(words: str, **changes: Any) -> Network:
    """Return a changed network that is rejected with these words."""
    return plain(logits=None, words=words, **changes)


def ending(words: str, *nodes: Any, weights: dict[str, np.ndarray] | None = None, **changes: Any) -> Network:
    """Return a network with additional nodes from "l" to "y" that is rejected with these words."""
    return refused(
        words, nodes=[convolution("x"), *tail(result="l"), *nodes], weights={"W": WEIGHT, "L": LAST, **(weights or {})}, **changes
    )


def _last_node(last: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Network:
    """Return a network that applies a function to its logits."""
    return plain(nodes=[convolution("x"), *tail(result="l"), last], logits=lambda images: function(logits_of(images)))


def _loop(kind: str) -> Network:
    from onnx import helper

    value = [helper.make_tensor_value_info(name, FLOAT, ["N", 10]) for name in ("v", "w")]
    if kind == "Scan":
        body = helper.make_graph([node("Identity", ["v"], "w")], "body", value[:1], value[1:])
        return ending("loop (Scan)", node("Scan", ["l"], "y", body=body, num_scan_inputs=1))
    state = [helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("go", BOOL, [])]
    nodes = [node("Identity", ["go"], "on"), node("Identity", ["v"], "w")]
    body = helper.make_graph(nodes, "body", [*state, value[0]], [helper.make_tensor_value_info("on", BOOL, []), value[1]])
    loop = node("Loop", ["", "yes", "l"], "y", body=body)
    if kind == "Loop":
        return ending("loop (Loop)", loop, weights={"yes": np.array(True)})
    branch = helper.make_graph(
        [node("Loop", ["", "yes", "l"], "z", body=body)], "branch", [], [helper.make_tensor_value_info("z", FLOAT, ["N", 10])]
    )
    return ending("loop (Loop)", node("If", ["yes"], "y", then_branch=branch, else_branch=branch), weights={"yes": np.array(True)})


def _constant(name: str, array: np.ndarray) -> Any:
    from onnx import numpy_helper

    return node("Constant", [], name, value=numpy_helper.from_array(array))


def _dequantised() -> dict[str, np.ndarray]:
    return {"q": LEVELS, "s": np.asarray(SCALE), "z": np.asarray(np.int8(0))}


def _rounded(images: torch.Tensor) -> torch.Tensor:
    hidden = torch.nn.functional.conv2d(images, torch.from_numpy(LEVELS * SCALE), stride=4).relu()
    return hidden.flatten(1) @ torch.from_numpy(LAST).T


def _fixed(batch: int) -> Network:
    nodes = [convolution("x"), node("Relu", ["c"], "r"), node("Reshape", ["r", "size"], "f"), node("Gemm", ["f", "L"], "y", transB=1)]
    weights = {"W": WEIGHT, "L": LAST, "size": np.array([batch, 392])}
    return plain(nodes=nodes, weights=weights, inputs=[("x", FLOAT, (batch, 3, 32, 32))], outputs=[("y", FLOAT, (batch, 10))])


def _channels_last(**changes: Any) -> Network:
    nodes = [node("Transpose", ["x"], "t", perm=[0, 3, 1, 2]), convolution("t"), *tail()]
    return plain(nodes=nodes, inputs=[("x", FLOAT, ("N", 32, 32, 3))], **changes)


def _integer_images(kind: int, **changes: Any) -> Network:
    nodes = [node("Cast", ["x"], "xf", to=FLOAT), convolution("xf"), *tail()]
    return plain(nodes=nodes, inputs=[("x", kind, ("N", 3, 32, 32))], **changes)


def _float_kind(kind: int, number: Any, tolerance: float) -> Network:
    weights = {"W": WEIGHT.astype(number), "L": LAST.astype(number)}
    return plain(weights=weights, inputs=[("x", kind, ("N", 3, 32, 32))], outputs=[("y", kind, ("N", 10))], tolerance=tolerance)


def _sized(height: int, width: int, channels: int = 3, **changes: Any) -> Network:
    """Return a network for images of another shape; its logits are not compared."""
    rows, columns = (height - 5) // 4 + 1, (width - 5) // 4 + 1
    weights = {"W": WEIGHT[:, :channels], "L": np.resize(LAST, (10, 8 * rows * columns))}
    return plain(weights=weights, inputs=[("x", FLOAT, ("N", channels, height, width))], **changes)


def _two_outputs(**changes: Any) -> Network:
    return plain(outputs=[("y", FLOAT, ("N", 10)), ("r", FLOAT, ("N", 8, 7, 7))], **changes)


def _scaled(images: torch.Tensor) -> torch.Tensor:
    return logits_of((255 * images - 127.5) / torch.tensor([60.0, 61.5, 62.0]).view(3, 1, 1))


def _integers(kind: str) -> Network:
    zero = {"z": np.asarray(np.uint8(0)), "zi": np.asarray(np.int8(0)), "s": np.asarray(SCALE), "q": LEVELS}
    quantise = node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"])
    middle = {
        "ConvInteger": [quantise, node("ConvInteger", ["xq", "q", "xz", "zi"], "i", strides=[4, 4]), node("Cast", ["i"], "c", to=FLOAT)],
        "QLinearConv": [
            node("QuantizeLinear", ["x", "s", "z"], "xq"),
            node("QLinearConv", ["xq", "s", "z", "q", "s", "zi", "s", "z"], "i", strides=[4, 4]),
            node("DequantizeLinear", ["i", "s", "z"], "c"),
        ],
        "QuantizeLinear": [convolution("x"), node("QuantizeLinear", ["c", "s", "z"], "i"), node("DequantizeLinear", ["i", "s", "z"], "c2")],
    }[kind]
    return refused("quantised", nodes=[*middle, *tail("c2" if kind == "QuantizeLinear" else "c")], weights={"W": WEIGHT, "L": LAST, **zero})


KINDS: dict[str, Callable[[], Network]] = {
    "plain": plain,
    "MatMul": lambda: plain(
        nodes=[convolution("x"), *tail()[:2], node("MatMul", ["f", "M"], "y")], weights={"W": WEIGHT, "M": np.ascontiguousarray(LAST.T)}
    ),
    "constants as nodes": lambda: plain(nodes=[_constant("W", WEIGHT), _constant("L", LAST), convolution("x"), *tail()], weights={}),
    "open sizes": lambda: plain(inputs=[("x", FLOAT, ("N", 3, "H", "W"))]),
    "nothing said of sizes": lambda: plain(inputs=[("x", FLOAT, (0, 0, 0, 0))]),
    "a batch of 1": lambda: _fixed(1),
    "a batch of 4": lambda: _fixed(4),
    "a batch that is declared only": lambda: plain(inputs=[("x", FLOAT, (1, 3, 32, 32))]),
    "weights of eight bits": lambda: plain(
        nodes=[node("DequantizeLinear", ["q", "s", "z"], "W"), convolution("x"), *tail()],
        weights={"L": LAST, **_dequantised()},
        logits=_rounded,
    ),
    "weights of eight bits in nodes": lambda: plain(
        nodes=[
            *(_constant(name, array) for name, array in _dequantised().items()),
            node("DequantizeLinear", ["q", "s", "z"], "W"),
            convolution("x"),
            *tail(),
        ],
        weights={"L": LAST},
        logits=_rounded,
    ),
    "half": lambda: _float_kind(FLOAT16, np.float16, 0.05),
    "double": lambda: _float_kind(DOUBLE, np.float64, 1e-3),
    "bytes": lambda: _integer_images(UINT8, preprocessing=Preprocessing(scale=255.0), logits=lambda images: logits_of(255 * images)),
    "int32": lambda: _integer_images(INT32, preprocessing=Preprocessing(scale=255.0), logits=lambda images: logits_of(255 * images)),
    "int64": lambda: _integer_images(INT64, preprocessing=Preprocessing(scale=255.0), logits=lambda images: logits_of(255 * images)),
    "bytes without a scale": lambda: _integer_images(UINT8, logits=None, words="--scale 255"),
    "two outputs": lambda: _two_outputs(logits=None, words="--output NAME"),
    "the first output": lambda: _two_outputs(preprocessing=Preprocessing(output="y")),
    "the wrong output": lambda: _two_outputs(preprocessing=Preprocessing(output="r"), logits=None, words="logits [2, classes]"),
    "an absent output": lambda: _two_outputs(preprocessing=Preprocessing(output="z"), logits=None, words="no output 'z'"),
    "channels last": lambda: _channels_last(preprocessing=Preprocessing(channels_last=True)),
    "channels last, not stated": lambda: _channels_last(logits=None, words="--channels-last"),
    "channels first, stated as last": lambda: refused("channels first", preprocessing=Preprocessing(channels_last=True)),
    "mean and std": lambda: plain(preprocessing=Preprocessing(255.0, (127.5,), (60.0, 61.5, 62.0)), logits=_scaled),
    "not square": lambda: _sized(32, 48, logits=None, words="48 x 32"),
    "tall": lambda: _sized(48, 32, logits=None, words="32 x 48"),
    "a side of 40": lambda: _sized(40, 40),
    "a side of 72": lambda: _sized(72, 72),
    "a side of 224": lambda: _sized(224, 224),
    "grey": lambda: _sized(28, 28, 1),
    "five channels": lambda: refused(
        "channels", inputs=[("x", FLOAT, ("N", 5, 32, 32))], weights={"W": np.resize(WEIGHT, (8, 5, 5, 5)), "L": LAST}
    ),
    "Loop": lambda: _loop("Loop"),
    "a Loop in a branch": lambda: _loop("If"),
    "Scan": lambda: _loop("Scan"),
    "QuantizeLinear": lambda: _integers("QuantizeLinear"),
    "ConvInteger": lambda: _integers("ConvInteger"),
    "QLinearConv": lambda: _integers("QLinearConv"),
    "two inputs": lambda: ending(
        "2 inputs (x, m)", node("Add", ["l", "m"], "y"), inputs=[("x", FLOAT, ("N", 3, 32, 32)), ("m", FLOAT, ("N", 10))]
    ),
    "no input": lambda: refused("0 inputs", nodes=[_constant("x", IMAGES.numpy()), convolution("x"), *tail()], inputs=[]),
    "flat images": lambda: refused("images [N, 3, H, W] expected", inputs=[("x", FLOAT, ("N", 3072))]),
    "text": lambda: refused("", inputs=[("x", 8, ("N", 3, 32, 32))]),
    "maps of logits": lambda: refused(
        "logits [2, classes]", nodes=[convolution("x"), node("Relu", ["c"], "y")], outputs=[("y", FLOAT, ("N", 8, 7, 7))]
    ),
    "classes alone": lambda: ending("", node("ArgMax", ["l"], "y", axis=1, keepdims=0), outputs=[("y", INT64, ("N",))]),
    "whole logits": lambda: ending("", node("Cast", ["l"], "y", to=INT64), outputs=[("y", INT64, ("N", 10))]),
    "no numbers": lambda: ending("finite", node("Div", ["l", "none"], "y"), weights={"none": np.asarray(np.float32(0))}),
    "random": lambda: ending("random", node("RandomNormalLike", ["l"], "e"), node("Add", ["l", "e"], "y")),
    "signs": lambda: _last_node(node("Sign", ["l"], "y"), torch.sign),
    "a softmax": lambda: _last_node(node("Softmax", ["l"], "y", axis=1), lambda logits: logits.softmax(1)),
    "zeros": lambda: ending("gradient", node("Shape", ["l"], "n"), node("ConstantOfShape", ["n"], "y")),
    "an unknown operator": lambda: ending("", node("Nonsense", ["l"], "y", domain="com.example")),
    "an operator without a counterpart": lambda: ending("", node("Hardmax", ["l"], "y", axis=1)),
    "a short weight": lambda: refused("", weights={"W": WEIGHT, "L": LAST[:, :300]}),
    "a name of nothing": lambda: refused("", weights={"W": WEIGHT}),
}  # fmt: skip


def case(random: Random, folder: Path) -> None:
    """Open one file and compare its logits, or its error, with the expected ones."""
    import onnx

    name = random.choice(list(KINDS))
    network = KINDS[name]()
    path = folder / random.choice(["network.onnx", "net work.onnx", "netz-é.onnx"])
    model = _model(random, network)
    content = model.SerializeToString()
    is_damaged = random.random() < 0.4
    if is_damaged:
        content = damaged(random, content)
        # Weights have no checksum, so a changed weight gives a different network.
    elif random.random() < 0.2:
        model = onnx.load_from_string(content)
        onnx.save(model, path, save_as_external_data=True, size_threshold=16, location="tensors.bin")
        content = path.read_bytes()
    path.write_bytes(content)
    opened: list[Any] = []
    error = refusal(lambda: opened.append(parse(str(path), preprocessing=network.preprocessing).open()), path.name)
    if is_damaged:
        return
    if network.logits is None:
        assert error is not None, f"accepted: {name}"
        assert network.words in str(error), f"{name}: {network.words!r} is expected in: {error}"
        return
    assert error is None, f"{name}: refused: {error}"
    description, loaded = opened[0]
    assert description.bytes >= len(content) and description.classes == 10
    if network.inputs[0][2][1:] in ((3, 32, 32), (32, 32, 3), (3, "H", "W"), (0, 0, 0)):
        expected = network.logits(IMAGES)
        difference = float((loaded(IMAGES) - expected).abs().max() / expected.abs().max())
        assert difference <= network.tolerance, f"{name}: other logits, by {difference}"


def _model(random: Random, network: Network) -> Any:
    """Return the ONNX model, with random comments and names that do not matter."""
    from onnx import helper, numpy_helper

    values = [[helper.make_tensor_value_info(*value) for value in values] for values in (network.inputs, network.outputs)]
    initial = [numpy_helper.from_array(array, name) for name, array in network.weights.items()]
    text = random.choice([text for text in TEXTS if text.isascii()]) or "g"
    graph = helper.make_graph(network.nodes, text, *values, initial)
    opsets = [helper.make_opsetid("", random.choice([13, 13, 14, 15])), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name=text)
    model.doc_string = text
    return model


DOOR = Door("onnx", full=400, ci=15, case=case)
