"""Checkpoints of Bayesian connectivity sampling (Özdenizci and Legenstein 2021; IGITUGraz/SparseAdversarialTraining, commit 3dd4db8).

A checkpoint is a pickle of TensorFlow variables, alone or in the zip that is published: {"param_list": [...]}, layer by layer. A layer has
magnitudes (`T`) and signs (`S`) and its weight is their product, 0 for magnitudes that are not positive; its bias follows, then its batch
norm's gamma, beta, mean and variance. Images are not normalised. In strided convolutions TensorFlow pads other pixels than PyTorch; it
stores weights as [k, k, in, out] and flattens images with channels last.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from model_zoo.adapters import Adapter, Imported, Request
from model_zoo.adapters.checkpoint import LARGEST_BYTES, check_size
from model_zoo.adapters.describe import describe
from model_zoo.adapters.fill import fill, layers
from model_zoo.adapters.scores import keep_ratio_for
from model_zoo.adapters.tf_pickle import Variable, read_variables
from model_zoo.errors import DamagedFileError
from model_zoo.families import get_family
from model_zoo.layers.bias import Bias

# Networks by the prefix of their variables' names, with the corresponding architecture of this package.
NETWORKS = {"vgg16": "vgg16", "resnet18": "bcs-resnet18", "resnet34": "bcs-resnet34", "resnet50": "bcs-resnet50"}
BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}


def load_bcs(path: Path, request: Request) -> Imported:
    """Read a checkpoint; nothing in it is executed.

    Raises
    ------
    DamagedFileError
        As `read_variables` and `fill` raise it, or if the variables are not those of a network of the official code, in its order.
    UsageError
        If the file does not exist, or a keep ratio was requested: the file already determines which weights are kept.
    """
    content = read_variables(path, pickle_in(path))
    variables = content.get("param_list") if isinstance(content, dict) else None
    if not isinstance(variables, list) or not variables or not all(isinstance(item, Variable) for item in variables):
        raise DamagedFileError(path, "a dictionary with a param_list of variables", "something else")
    keep_ratio_for(path, False, request.keep_ratio)
    architecture = {**_architecture(path, variables), "normalisation": "none"}
    model = fill(path, _state(path, variables, architecture), architecture, True)
    family = get_family("bcs")
    return describe(model, architecture, True, str(family.method), family.taxonomy)


def pickle_in(path: Path, largest: int = LARGEST_BYTES) -> bytes:
    """Return the pickle's bytes, extracted if the file is a zip; a zip whose pickle has more than `largest` bytes is rejected unread."""
    check_size(path)
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    try:
        with zipfile.ZipFile(path) as archive:
            names = [
                entry for entry in archive.infolist() if entry.filename.endswith((".pickle", ".pkl")) and "__MACOSX" not in entry.filename
            ]
            if len(names) != 1 or names[0].file_size > largest:
                raise DamagedFileError(path, f"one pickle of at most {largest:,} bytes", f"{len(names)} pickles, or a larger one")
            with archive.open(names[0]) as file:
                return file.read(names[0].file_size)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise DamagedFileError(path, "an archive", str(error)) from None


def _architecture(path: Path, variables: list[Variable]) -> dict[str, Any]:
    network = variables[0].name.partition("/")[0]
    last = next((item.value for item in reversed(variables) if item.value.ndim == 2), np.zeros((0, 0)))
    kernels = [item.value.shape for item in variables if item.name.endswith("/T") and item.value.ndim == 4]
    outputs = [shape[3] for shape in kernels if shape[0] == 3]
    wide_match = re.fullmatch(r"wideresnet-(\d{2})-(\d{1,2})", network)
    if not outputs or not (wide_match or network in NETWORKS):
        raise DamagedFileError(path, f"variables of a wideresnet or of {', '.join(NETWORKS)}", f"{variables[0].name!r}")
    classes = int(last.shape[1])
    if wide_match:
        return {"name": "bcs-wide-resnet", "classes": classes, "depth": int(wide_match[1]), "widths": list(dict.fromkeys(outputs))}
    if network == "vgg16":
        hidden = [int(item.value.shape[1]) for item in variables if item.name.endswith("/T") and item.value.ndim == 2][:-1]
        return {"name": "vgg16", "classes": classes, "widths": [int(size) for size in outputs], "hidden": hidden}
    return {"name": NETWORKS[network], "classes": classes, "width": int(outputs[0])}


def _state(path: Path, variables: list[Variable], architecture: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors under our names; the variables are in the order of our layers."""
    remaining = iter(variables)
    state: dict[str, torch.Tensor] = {}
    flattened = 0
    for name, module in layers(architecture, True):
        if isinstance(module, nn.Conv2d):
            magnitude, sign = _next(path, remaining, "T"), _next(path, remaining, "S")
            if magnitude.shape != sign.shape or magnitude.ndim not in (2, 4) or not np.isin(sign, (-1.0, 0.0, 1.0)).all():
                raise DamagedFileError(path, f"magnitudes and signs of {name!r}", f"shapes {magnitude.shape} and {sign.shape}, or no signs")
            weight = np.where(magnitude > 0, sign * magnitude, np.float32(0.0))
            if weight.ndim == 4:
                weight, flattened = weight.transpose(3, 2, 0, 1), weight.shape[3]
            else:
                weight, flattened = _channels_first(weight, flattened).T[:, :, None, None], weight.shape[1]
            state[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(weight, np.float32))
        elif isinstance(module, nn.BatchNorm2d):
            # The variables of a batch norm are in the order of this dictionary.
            state |= {f"{name}.{field}": torch.from_numpy(_next(path, remaining, kind)) for field, kind in BATCH_NORM.items()}
        elif isinstance(module, Bias):
            state[f"{name.removesuffix('_bias')}.bias"] = torch.from_numpy(_next(path, remaining, "b"))
    extra = next(remaining, None)
    if extra is not None:
        raise DamagedFileError(path, f"the variables of {architecture['name']}", f"the additional variable {extra.name!r}")
    return state


def _channels_first(weight: np.ndarray, channels: int) -> np.ndarray:
    """Reorder the rows of a linear layer [H W C, out] to C H W; no change if the number of rows is `channels` or not a multiple of it."""
    positions = weight.shape[0] // max(channels, 1)
    if channels * positions != weight.shape[0]:
        return weight
    return weight.reshape(positions, channels, -1).transpose(1, 0, 2).reshape(weight.shape)


def _next(path: Path, variables: Iterator[Variable], kind: str) -> np.ndarray:
    item = next(variables, None)
    if item is None or item.name.rpartition("/")[2] != kind:
        raise DamagedFileError(path, f"a variable .../{kind}", "the end of the list" if item is None else repr(item.name))
    return item.value


ADAPTER = Adapter(
    name="bcs",
    reads="Bayesian connectivity sampling (Özdenizci and Legenstein 2021): a pickle of TensorFlow variables, or the zip with it",
    load=load_bcs,
    files="twelve zips linked from the README of github.com/IGITUGraz/SparseAdversarialTraining",
)
