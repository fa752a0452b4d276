"""Inspection of ONNX graphs: inputs, outputs and operators, with error messages for graphs that cannot be attacked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model_zoo.adapters.preprocessing import Preprocessing
from model_zoo.errors import UserError

# Operators that round to integers, so that they have no useful gradient.
_ROUNDING = ("QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QGemm")
# Operators whose number of iterations depends on the data and may be infinite.
_LOOPS = ("Loop", "Scan", "SequenceMap")
# Operators that draw random numbers.
_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
# Operators whose weights the converter takes from initializers only.
_WEIGHTED = ("Conv", "ConvTranspose", "BatchNormalization", "Gemm", "DequantizeLinear")
_CHANNELS = (1, 3)
_KINDS = {1: torch.float32, 10: torch.float16, 11: torch.float64}


@dataclass(frozen=True)
class Layout:
    """Input and outputs of a graph.

    `batch` is the fixed number of images, or None if it is dynamic; `shape` is [C, H, W] for either order of the channels; `kind` is the
    floating type of pixels, None if the graph takes integers. `is_fixed` says whether the file states all sizes of an image.
    """

    input: str
    batch: int | None
    shape: tuple[int, int, int]
    channels_last: bool
    kind: torch.dtype | None
    outputs: tuple[str, ...]
    is_fixed: bool


def layout_of(path: Path, graph: Any) -> Layout:
    """Return the layout of a loaded ONNX model; unknown sizes become 3 channels and 32 pixels, or a square with the known side.

    Raises
    ------
    UserError
        If the model has several inputs, or one that does not have four dimensions.
    """
    constants = {tensor.name for tensor in graph.graph.initializer}
    inputs = [item for item in graph.graph.input if item.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs) or "none"
        raise UserError(f"{path}: images [N, 3, H, W] expected as the only input, found {len(inputs)} inputs ({names})")
    tensor_type = inputs[0].type.tensor_type
    sizes = [axis.dim_value if axis.dim_value > 0 else 0 for axis in tensor_type.shape.dim]
    if len(sizes) != 4:
        raise UserError(f"{path}: images [N, 3, H, W] expected as the only input, found {sizes} (0: any)")
    channels_last = sizes[3] in _CHANNELS and sizes[1] not in _CHANNELS
    batch, *rest = sizes
    channels, height, width = (rest[2], rest[0], rest[1]) if channels_last else rest
    shape = (channels or 3, height or width or 32, width or height or 32)
    return Layout(
        inputs[0].name,
        batch or None,
        shape,
        channels_last,
        _KINDS.get(tensor_type.elem_type),
        tuple(item.name for item in graph.graph.output),
        all(rest),
    )


def check_preprocessing(path: Path, layout: Layout, preprocessing: Preprocessing) -> None:
    """Check that `preprocessing` has everything that an ONNX file requires and does not contradict the file.

    Raises
    ------
    UserError
        If an option is missing or wrong; the message names the option.
    """
    names = ", ".join(layout.outputs)
    if preprocessing.output and preprocessing.output not in layout.outputs:
        raise UserError(f"{path}: no output {preprocessing.output!r}; it has {names}")
    if len(layout.outputs) != 1 and not preprocessing.output:
        raise UserError(f"{path}: {len(layout.outputs)} outputs ({names}): name the one with the logits, --output NAME")
    if layout.channels_last and not preprocessing.channels_last:
        raise UserError(f"{path}: it takes images with channels last, [N, H, W, C]: use --channels-last")
    if preprocessing.channels_last and not layout.channels_last:
        raise UserError(f"{path}: --channels-last is wrong, because it takes images of {list(layout.shape)}, channels first")
    if layout.kind is None and preprocessing.scale == 1.0:
        raise UserError(f"{path}: it takes whole numbers, not pixels in [0, 1]: use --scale 255")


def without_traces(graph: Any) -> None:
    """Remove an exporter's debugging information from a model in place: stack traces with paths of the machine, file names, comments."""
    graph.ClearField("doc_string")
    del graph.metadata_props[:]
    graph.graph.ClearField("doc_string")
    for item in (*_nodes(graph.graph), *graph.graph.input, *graph.graph.output, *graph.graph.value_info, *graph.graph.initializer):
        item.ClearField("doc_string")
    for item in (graph.graph, *_nodes(graph.graph), *graph.graph.input, *graph.graph.output, *graph.graph.value_info, *graph.functions):
        if hasattr(item, "metadata_props"):
            del item.metadata_props[:]
    for function in graph.functions:
        function.ClearField("doc_string")
        for node in function.node:
            node.ClearField("doc_string")
            del node.metadata_props[:]


def check_operators(path: Path, graph: Any) -> None:
    """Check that a graph has no operators that round to integers, draw random numbers, or may never end.

    Raises
    ------
    UserError
        If it has one; the message names the operator.
    """
    operators = list(dict.fromkeys(node.op_type for node in _nodes(graph.graph)))
    for operator in operators:
        if operator in _ROUNDING or operator.startswith("QLinear"):
            raise UserError(f"{path}: it is quantised ({operator}): no gradient passes through it; export the network in floats")
        if operator in _RANDOM:
            raise UserError(f"{path}: it draws random numbers ({operator}); export the network without, or add the function that makes it")
        if operator in _LOOPS:
            raise UserError(f"{path}: it has a loop ({operator}), which may never end; export the network unrolled")


def fold_constants(graph: Any) -> Any:
    """Return the graph with all weights as float initializers, which the converter requires.

    Weights that are stored as integers (DequantizeLinear of constants) are converted to floats, and weights that nodes of type Constant
    contain become initializers.
    """
    import onnx
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    weights = {name for node in graph.graph.node if node.op_type in _WEIGHTED for name in node.input}
    in_nodes = {
        node.output[0]: attribute.t
        for node in graph.graph.node
        if node.op_type == "Constant" and node.output[0] in weights
        for attribute in node.attribute
        if attribute.name == "value"
    }
    constants = {**{tensor.name: tensor for tensor in graph.graph.initializer}, **in_nodes}
    folding = [node for node in graph.graph.node if node.op_type == "DequantizeLinear" and all(name in constants for name in node.input)]
    if not folding and not in_nodes:
        return graph
    folded = onnx.ModelProto()
    folded.CopyFrom(graph)
    del folded.graph.node[:]
    folded.graph.node.extend(node for node in graph.graph.node if node not in folding and node.output[0] not in in_nodes)
    for name, tensor in in_nodes.items():
        folded.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(tensor), name))
    for node in folding:
        feeds = {name: numpy_helper.to_array(constants[name]) for name in node.input}
        computed: Any = ReferenceEvaluator(node).run(None, feeds)
        folded.graph.initializer.append(numpy_helper.from_array(computed[0], node.output[0]))
    return folded


def share_weights(graph: Any, network: Any) -> None:
    """Let layers of a converted network share the tensor that they share in the ONNX file; the converter makes a copy for each."""
    first: dict[str, list[Any]] = {}
    for node in graph.graph.node:
        operation = getattr(network, network.mapping[node.output[0]])
        layers = [module for module in operation.modules() if isinstance(getattr(module, "weight", None), torch.nn.Parameter)]
        if len(node.input) < 2 or not layers:
            continue
        for original, layer in zip(first.setdefault(node.input[1], layers), layers, strict=False):
            if torch.equal(original.weight, layer.weight):
                layer.weight = original.weight


def _nodes(graph: Any) -> Any:
    """Iterate over all nodes, including those of subgraphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)
