"""Workarounds for packages that cannot be imported as installed; they do nothing if the import works.

- robustbench 1.1.1 imports a module `autoattack`, but the package that it depends on is called `pyautoattack`.
- torchvision's compiled operators are linked to a CUDA build of torch: with a CPU build, `import torchvision` fails on
  `torchvision::nms`. Declaring the two operators for which it registers metadata makes the import work; this project never calls them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from types import ModuleType

import torch

from model_zoo.errors import UserError

# Kept alive for the life of the process, because a library's operators disappear when it is garbage-collected.
_LIBRARIES: list[torch.library.Library] = []
_BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_torchvision() -> ModuleType:
    """Import and return torchvision, even if its compiled operators cannot be loaded."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(operator + _BOXES)
    _LIBRARIES.append(library)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    return importlib.import_module("torchvision")


def import_robustbench() -> ModuleType:
    """Import and return robustbench.

    Raises
    ------
    UserError
        If the extra `robustbench` is not installed; the message has the command that installs it.
    """
    try:
        import_torchvision()
        if "autoattack" not in sys.modules and importlib.util.find_spec("autoattack") is None:
            sys.modules["autoattack"] = importlib.import_module("pyautoattack")
            sys.modules["autoattack.state"] = importlib.import_module("pyautoattack.state")
        with warnings.catch_warnings():
            # robustbench uses pkg_resources, which the extra's bound on setuptools keeps working.
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            return importlib.import_module("robustbench")
    except ModuleNotFoundError as error:
        raise UserError(f"RobustBench needs the extra: pip install 'robust-binary-harness[robustbench]' (missing: {error.name})") from None
