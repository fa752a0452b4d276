"""Models of the RobustBench leaderboards, loaded by the robustbench package."""

from __future__ import annotations

import pickle
from pathlib import Path

import requests
from torch import nn

from model_zoo.adapters.compat import import_robustbench
from model_zoo.errors import DamagedFileError, MissingDataError, UnknownNameError

# Folder of robustbench's files, relative to the working folder, as in the package.
FOLDER = "models"


def robustbench_names(dataset: str = "cifar10", norm: str = "Linf") -> list[str]:
    """Return the sorted names that `load_robustbench` knows for a data set ("cifar10", "cifar100", "imagenet") and a norm ("Linf", "L2").

    Raises an UnknownNameError if there is no such leaderboard, and a UserError if the extra `robustbench` is not installed.
    """
    import_robustbench()
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    try:
        return sorted(model_dicts[BenchmarkDataset(dataset)][ThreatModel(norm)])
    except (ValueError, KeyError):
        boards = [f"{data.value}/{threat.value}" for data, threats in model_dicts.items() for threat in threats]
        raise UnknownNameError("RobustBench leaderboard", f"{dataset}/{norm}", boards, "https://robustbench.github.io") from None


def file_of(model_dir: Path, name: str, dataset: str, norm: str) -> Path:
    """Return the path of a model's file, as robustbench lays out `model_dir`."""
    return model_dir / dataset / norm / f"{name}.pt"


def load_robustbench(name: str, model_dir: Path, dataset: str = "cifar10", norm: str = "Linf") -> nn.Module:
    """Load a leaderboard model, frozen and in eval mode, that maps float32 [N, 3, H, W] in [0, 1] to logits [N, classes].

    The file is `model_dir/<dataset>/<norm>/<name>.pt`; the package downloads it if it does not exist, and reads it with torch's
    weights-only loader.

    Raises
    ------
    UserError
        If the extra `robustbench` is not installed.
    UnknownNameError
        If there is no such leaderboard, or it does not have the model.
    MissingDataError
        If the file does not exist and cannot be downloaded.
    DamagedFileError
        If the file is not the model's state: it is cut short, or tensors are missing, superfluous or misshapen.
    """
    robustbench = import_robustbench()
    names = robustbench_names(dataset, norm)
    if name not in names:
        raise UnknownNameError("RobustBench model", name, names, "https://robustbench.github.io")
    path = file_of(model_dir, name, dataset, norm)
    existed = path.is_file()
    try:
        model: nn.Module = robustbench.load_model(name, model_dir=model_dir, dataset=dataset, threat_model=norm)
    except (requests.RequestException, OSError) as error:
        if existed:
            raise DamagedFileError(path, f"the state of {name}", str(error).splitlines()[0]) from None
        raise MissingDataError(f"{path} does not exist and could not be downloaded ({type(error).__name__}): put the file there") from None
    except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise DamagedFileError(path, f"the state of {name}", " ".join(str(error).split())[:200]) from None
    return model.eval().requires_grad_(False)
