"""Networks exported to one file: TorchScript, torch.export (.pt2) and ONNX.

Only ONNX is data: protobuf, whose operators a converter looks up in a table. The other two are programs, and loading them requires trust in
their authors: TorchScript may write files when it runs, and `torch.export.load` unpickles what it cannot read otherwise and executes the
guards in the file. They are loaded only if the user names the file; no record refers to one.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model_zoo.adapters.compat import import_torchvision
from model_zoo.adapters.kind import kind_of
from model_zoo.adapters.onnx_graph import (
    Layout,
    check_operators,
    check_preprocessing,
    fold_constants,
    layout_of,
    share_weights,
    without_traces,
)
from model_zoo.adapters.preprocessing import NO_PREPROCESSING, PreprocessedNetwork, Preprocessing
from model_zoo.errors import DamagedFileError, UsageError, UserError
from model_zoo.surroundings import isolated_torch

SUFFIXES = (".onnx", ".pt2", ".pt", ".pth", ".ts")
# Largest difference between the logits of two implementations of one network, as a share of the logits' range.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Exported:
    """Network from an exported file.

    Attributes
    ----------
    module : nn.Module
        Frozen network in eval mode.
    kind : str
        "torchscript", "torch-export" or "onnx".
    content : bytes
        Content of the file; for ONNX, tensors that were stored in separate files are included.
    image_shape : tuple of int or None
        Channels, height and width of images if the file states them; None for formats other than ONNX.
    """

    module: nn.Module
    kind: str
    content: bytes
    image_shape: tuple[int, int, int] | None = None

    @property
    def sha256(self) -> str:
        """Hash of the content, which includes the weights and all operations."""
        return hashlib.sha256(self.content).hexdigest()


@isolated_torch()
def load_exported(path: Path, preprocessing: Preprocessing = NO_PREPROCESSING) -> Exported:
    """Load a network from a file and apply `preprocessing`; TorchScript and torch.export files must be trusted.

    Raises
    ------
    UsageError
        If the file does not exist or contains weights without a network, or if an output is named and the file is not ONNX.
    DamagedFileError
        If the file cannot be read.
    UserError
        For ONNX files, as `load_onnx` raises it.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}")
    if path.suffix == ".onnx":
        return load_onnx(path, preprocessing)
    names = _entries(path)
    with _quiet(), _report_damage(path, "a network that torch can load"):
        if any("/code/" in name for name in names):
            scripted = torch.jit.load(str(path), map_location="cpu").eval()
            for parameter in scripted.parameters():
                parameter.requires_grad_(False)
            return Exported(_with_preprocessing(scripted, preprocessing), "torchscript", path.read_bytes())
        if any(name.endswith("archive_format") for name in names):
            module = _Fixed(torch.export.load(str(path)).module()).eval().requires_grad_(False)
            return Exported(_with_preprocessing(module, preprocessing), "torch-export", path.read_bytes())
    raise UsageError(
        f"{path} contains no network (TorchScript, torch.export or ONNX); for weights, use FILE.py:FUNCTION --checkpoint {path}"
    )


def _with_preprocessing(network: nn.Module, preprocessing: Preprocessing) -> nn.Module:
    if preprocessing.output:
        raise UsageError("--output is for ONNX, whose outputs have names")
    return network if preprocessing == NO_PREPROCESSING else PreprocessedNetwork(network, preprocessing, torch.float32, None, 0)


class _Fixed(nn.Module):
    """Network from torch.export, whose modules cannot switch between training and eval mode: the mode was fixed at export.

    A separate check detects batch norms that were exported in training mode.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for module in network.modules():
            module.training = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [N, classes] of images [N, C, H, W]."""
        return self.network(images)

    def train(self, mode: bool = True) -> _Fixed:
        """Set the flag of this module only, not of the network inside, and return the module."""
        self.training = mode
        return self


@isolated_torch()
def load_onnx(path: Path, preprocessing: Preprocessing = NO_PREPROCESSING) -> Exported:
    """Load an ONNX file with onnx2pytorch and check that the converted network has the same logits. Nothing in the file is executed.

    Raises
    ------
    DamagedFileError
        If the file is not ONNX.
    UserError
        If the extra `onnx` is not installed, the graph cannot be attacked, `preprocessing` does not fit the graph, an operator has no
        counterpart in torch, or the converted network has other logits than ONNX's reference implementation.
    """
    try:
        import onnx

        import_torchvision()
        from onnx2pytorch import ConvertModel
    except ModuleNotFoundError as error:
        raise UserError(f"ONNX files need the extra: pip install 'robust-binary-harness[onnx]' (missing: {error.name})") from None
    kind = kind_of(path)
    if not kind.startswith("another file"):
        raise DamagedFileError(path, "an ONNX file", kind)
    with _report_damage(path, "an ONNX file"):
        graph = onnx.load(str(path))
        onnx.checker.check_model(graph)
    for tensor in graph.graph.initializer:
        # Tensors from separate files have been loaded; without this mark, the content equals that of one complete file.
        tensor.ClearField("data_location")
    content = graph.SerializeToString(deterministic=True)
    layout = layout_of(path, graph)
    check_preprocessing(path, layout, preprocessing)
    graph = fold_constants(graph)
    check_operators(path, graph)
    try:
        with _quiet():
            network = ConvertModel(graph).eval().requires_grad_(False)
            share_weights(graph, network)
    except Exception as error:
        # The conversion of an operator may raise any exception.
        raise UserError(f"{path}: the ONNX converter cannot convert it to torch: {_first_line(error)}") from None
    image_shape = layout.shape if layout.is_fixed else None
    return Exported(_checked_network(path, graph, network, layout, preprocessing), "onnx", content, image_shape)


def to_onnx(model: nn.Module, images: torch.Tensor) -> bytes:
    """Export a frozen network to ONNX, for any number of images [N, C, H, W] with the C, H and W of `images`, and return the bytes.

    Raises
    ------
    UserError
        If the extra `onnx` is not installed, or the network cannot be exported.
    """
    try:
        import onnxscript  # noqa: F401 - torch's exporter imports it, with a longer message
    except ModuleNotFoundError as error:
        raise UserError(f"ONNX files need the extra: pip install 'robust-binary-harness[onnx]' (missing: {error.name})") from None
    try:
        with _quiet():
            shapes = ({0: torch.export.Dim.DYNAMIC},)
            program: Any = torch.onnx.export(model, (images,), dynamo=True, dynamic_shapes=shapes, verbose=False)
    except Exception as error:
        # torch wraps the cause in exceptions of many types.
        raise UserError(f"this network cannot be exported to ONNX: {_first_line(error)}") from None
    graph = program.model_proto
    without_traces(graph)
    return bytes(graph.SerializeToString(deterministic=True))


def _checked_network(path: Path, graph: Any, network: nn.Module, layout: Layout, preprocessing: Preprocessing) -> nn.Module:
    """Return the converted network, wrapped in `PreprocessedNetwork` if needed.

    Raises a UserError if ONNX's reference gives other logits on noise.
    """
    from onnx.reference import ReferenceEvaluator

    output_index = layout.outputs.index(preprocessing.output) if preprocessing.output else 0
    kind = layout.kind or torch.float32
    is_plain = preprocessing == NO_PREPROCESSING and kind == torch.float32 and len(layout.outputs) == 1
    wrapped = PreprocessedNetwork(network, preprocessing, kind, None, output_index)
    noise = torch.rand(layout.batch or 2, *layout.shape, generator=torch.Generator().manual_seed(0))
    # Pixels are multiples of 1/255, so that a network that takes bytes can be compared as well.
    noise = (noise * 255).round() / 255
    prepared = wrapped.before(noise)
    inputs = prepared.to(kind) if layout.kind is not None else prepared.round().to(torch.uint8)
    try:
        computed: Any = ReferenceEvaluator(graph).run(None, {layout.input: inputs.numpy()})
        expected = torch.from_numpy(computed[output_index]).float()
        with torch.no_grad():
            logits = wrapped(noise)
    except Exception as error:
        # Three packages run an arbitrary graph here, so any exception may occur.
        raise UserError(f"{path}: the network does not run: {_first_line(error)}") from None
    if not torch.isfinite(expected).all():
        raise UserError(f"{path}: its logits for random images are not finite")
    if not close(logits, expected):
        raise UserError(f"{path}: the converted network returns other logits than ONNX's reference implementation")
    if layout.batch is not None and not _accepts(wrapped, noise[:1].repeat(layout.batch + 1, 1, 1, 1), expected[0]):
        return PreprocessedNetwork(network, preprocessing, kind, layout.batch, output_index)
    return network if is_plain else wrapped


def _accepts(network: nn.Module, images: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether a network accepts these images and gives each of them the expected logits."""
    try:
        with torch.no_grad():
            return close(network(images), expected.expand(len(images), -1))
    except Exception:
        return False


def close(one: Any, other: torch.Tensor) -> bool:
    """Return whether two tensors have one shape and differ by at most `TOLERANCE` times the range of the second."""
    if not isinstance(one, torch.Tensor) or one.shape != other.shape:
        return False
    return float((one - other).abs().max()) <= TOLERANCE * float((other.max() - other.min()).clamp(min=1e-12))


def _entries(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError):
        raise DamagedFileError(path, "TorchScript, torch.export or ONNX", "another file, or one cut short") from None


@contextmanager
def _report_damage(path: Path, expected: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Each format raises different exceptions, some of them plain `Exception`.
        raise DamagedFileError(path, expected, _first_line(error)) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the warnings and progress messages of loaders and exporters, on which a user cannot act."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
