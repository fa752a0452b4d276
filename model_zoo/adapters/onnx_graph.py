"""What an ONNX graph takes, gives and computes with, and the sentence for what cannot be attacked; nothing in it is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model_zoo.adapters.outside import Outside
from model_zoo.errors import UserError

# Operators that round to integers on the way: no gradient comes back through them.
_ROUNDING = ("QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QGemm")
# Bodies that run a number of times that the data decides, which may be for ever.
_LOOPS = ("Loop", "Scan", "SequenceMap")
_CHANNELS = (1, 3)
_KINDS = {1: torch.float32, 10: torch.float16, 11: torch.float64}


@dataclass(frozen=True)
class Layout:
    """What the graph takes: a fixed number of images or None, and the type of their pixels (None: integers)."""

    input: str
    batch: int | None
    shape: tuple[int, int, int]
    channels_last: bool
    kind: torch.dtype | None
    outputs: tuple[str, ...]


def layout_of(path: Path, graph: Any) -> Layout:
    """The layout of a loaded ONNX model.

    Raises
    ------
    UserError
        If it takes something else than one batch of square images.
    """
    constants = {tensor.name for tensor in graph.graph.initializer}
    inputs = [item for item in graph.graph.input if item.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs) or "none"
        raise UserError(f"{path}: images [N, 3, H, W] expected as the only input, found {len(inputs)} inputs ({names})")
    given = inputs[0].type.tensor_type
    sizes = [axis.dim_value if axis.dim_value > 0 else 0 for axis in given.shape.dim]
    if len(sizes) != 4:
        raise UserError(f"{path}: images [N, 3, H, W] expected as the only input, found {sizes} (0: any)")
    channels_last = sizes[3] in _CHANNELS and sizes[1] not in _CHANNELS
    batch, *rest = sizes
    channels, height, width = (rest[2], rest[0], rest[1]) if channels_last else rest
    shape = (channels or 3, height or width or 32, width or height or 32)
    return Layout(
        inputs[0].name, batch or None, shape, channels_last, _KINDS.get(given.elem_type), tuple(item.name for item in graph.graph.output)
    )


def check_said(path: Path, layout: Layout, outside: Outside) -> None:
    """Make sure that what has to be said of an ONNX file has been, and nothing that it contradicts.

    Raises
    ------
    UserError
        Naming the option.
    """
    names = ", ".join(layout.outputs)
    if outside.output and outside.output not in layout.outputs:
        raise UserError(f"{path}: no output {outside.output!r}; it has {names}")
    if len(layout.outputs) != 1 and not outside.output:
        raise UserError(f"{path}: {len(layout.outputs)} outputs ({names}): say which has the logits, --output NAME")
    if layout.channels_last and not outside.channels_last:
        raise UserError(f"{path}: it takes images with channels last, [N, H, W, C]: say --channels-last")
    if outside.channels_last and not layout.channels_last:
        raise UserError(f"{path}: --channels-last was said, and it takes images of {list(layout.shape)}, channels first")
    if layout.kind is None and outside.scale == 1.0:
        raise UserError(f"{path}: it takes whole numbers, not pixels in [0, 1]: say --scale 255")


def without_traces(graph: Any) -> None:
    """Take out of a model what its exporter left for debugging: stack traces with paths of the machine, names of files, comments."""
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
    """Refuse a graph that computes with what cannot be attacked or may never end.

    Raises
    ------
    UserError
        Naming the operator.
    """
    operators = list(dict.fromkeys(node.op_type for node in _nodes(graph.graph)))
    for operator in operators:
        if operator in _ROUNDING or operator.startswith("QLinear"):
            raise UserError(f"{path}: it is quantised ({operator}): no gradient comes back through it; export the network in floats")
        if operator in _LOOPS:
            raise UserError(f"{path}: it has a loop ({operator}), which may never end; export the network unrolled")


def fold_constants(graph: Any) -> Any:
    """The graph with weights that are stored as integers (DequantizeLinear of a constant) as floats."""
    import onnx
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    folding = [node for node in graph.graph.node if node.op_type == "DequantizeLinear" and all(name in constants for name in node.input)]
    if not folding:
        return graph
    folded = onnx.ModelProto()
    folded.CopyFrom(graph)
    del folded.graph.node[:]
    folded.graph.node.extend(node for node in graph.graph.node if node not in folding)
    for node in folding:
        feeds = {name: numpy_helper.to_array(constants[name]) for name in node.input}
        computed: Any = ReferenceEvaluator(node).run(None, feeds)
        folded.graph.initializer.append(numpy_helper.from_array(computed[0], node.output[0]))
    return folded


def _nodes(graph: Any) -> Any:
    """All nodes, those of branches too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)
