"""Python interface of the harness, with torch modules and pandas frames."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from harness import attacks, datasets
from harness.evaluation.marks import in_words, marks, union
from harness.evaluation.outcomes import UnitOutcome
from harness.runner import work
from harness.runner.execute import execute
from harness.runner.identity import model_sha256
from harness.runner.plan import Plan, plan_described, plan_request
from harness.runner.results import read, select
from harness.runner.store import Store
from harness.runner.work import open_checked
from model_zoo import loading
from model_zoo.errors import UsageError, UserError
from model_zoo.fence import Fenced, unfenced
from model_zoo.fingerprint import differs, fingerprint
from model_zoo.packing.frozen import weights_sha256
from model_zoo.references import parse
from model_zoo.schema import Attackable
from model_zoo.threat import threats_for
from model_zoo.user_code import user_code
from model_zoo.user_model import UserModel


class FlagWarning(UserWarning):
    """Warning that findings about a model make its robust accuracy doubtful."""


DEFAULT_STORE = Path("results")


def load_model(model: str) -> nn.Module:
    """Load a registered model by id, or any packed model by the path of its record.

    Returns a frozen module in eval mode that maps float32 [N, 3, H, W] in [0, 1] to logits [N, classes].

    Raises
    ------
    UnknownNameError, DamagedFileError
        If there is no such model, or its file does not agree with its record.
    """
    return loading.load_model(model)


def evaluate(
    model: str | Path | nn.Module,
    *,
    attack: str | Sequence[str] = "pgd",
    dataset: str = "cifar10-sample",
    n: int | None = None,
    radius: str | None = None,
    engine: str = "auto",
    seed: int = 0,
    data_dir: str | Path | None = None,
    store: str | Path | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> pd.DataFrame:
    """Attack a model and return one row per image: labels of unit and model, then the columns of `harness.evaluation.outcomes`.

    The column `flags` contains the marks of a unit, see `harness.evaluation.marks`; a `FlagWarning` reports them too. A module from
    `load_model` is labelled with its model's id, any other with its class and the beginning of a hash of its weights.

    Parameters
    ----------
    model : str, Path or nn.Module
        An id, the path of a record, or a frozen module in eval mode that maps float32 [N, 3, H, W] in [0, 1] to logits [N, classes].
    attack : str or sequence of str
        Names as listed by `harness ls attacks`.
    dataset : str
        A name as listed by `harness ls datasets`, or images of your own, see `harness.datasets.load`.
    n : int, optional
        Number of images, the first in the data set's order; None means all.
    radius : str, optional
        An exact fraction such as "8/255", with the norm before it ("Linf 8/255") if the attacks have several norms. If None, the
        protocol's radius for the data set and the attack's norm.
    engine : str
        What attacks differentiate, see `harness.engines`; a module that is not registered has only "dense".
    seed : int
        Base seed.
    data_dir : path, optional
        Folder of the data that does not ship; see `harness.datasets.data_folder`.
    store : path, optional
        Store whose outcomes are used and to which new ones are added; for registered models only. If None, nothing is stored.
    progress : callable, optional
        Called with the fraction done of the current unit and the attack's component; not called if a store is used.

    Raises
    ------
    UserError
        If a name is unknown, the model or the images are refused, or a unit fails.
    """
    if isinstance(model, Path):
        model = str(model)
    if not isinstance(model, (str, nn.Module)):
        raise UsageError(f"model must be an id, a path or a torch.nn.Module, not {model!r} (call the function that makes it first)")
    names = [attack] if isinstance(attack, str) else list(attack)
    folder = Path(data_dir) if data_dir is not None else None
    threats = threats_for((attacks.get(name).norm for name in names), [radius] if radius is not None else [])
    if isinstance(model, nn.Module):
        if store is not None:
            raise UserError("a store contains registered models only: pass a model id or a record, or no store")
        with user_code("model failed"):
            fenced = model if isinstance(model, Fenced) else Fenced(model, _make_copier(model))
            images, family = datasets.load(dataset, folder, n), datasets.describe(dataset).family
            descriptions = _describe_module(model, images.images.shape[1], images.images.shape[3], len(images.classes))
            if isinstance(next(iter(descriptions.values())), UserModel):
                if engine not in ("auto", "dense"):
                    raise UsageError(f"engine {engine} works only with registered models, not with modules")
                engine = "dense"
            return _evaluate_plan(plan_described(descriptions, names, images, family, threats, seed, engine), fenced, progress)
    plan = plan_request([model], names, dataset, n, threats, seed, folder, engine=engine)
    if store is None:
        return _evaluate_plan(plan, open_checked(plan.units[0].model)[1], progress)
    result_store = Store(Path(store))
    report = execute(plan, result_store)
    if report.failed:
        raise UserError(report.failed[0][1])
    return _warn_of_flags(pd.concat([result_store.read(unit.id).frame for unit in plan.units], ignore_index=True))


def results(
    store: str | Path = DEFAULT_STORE,
    *,
    model: str | Sequence[str] | None = None,
    attack: str | Sequence[str] | None = None,
    dataset: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return stored outcomes, one row per image and attack; an empty frame with the same columns if there are none.

    The column `flags` contains the marks of a unit, see `harness.evaluation.marks`; a `FlagWarning` reports the models that have any.
    """
    return _warn_of_flags(select(read(Path(store)), model, attack, dataset))


def _evaluate_plan(plan: Plan, model: nn.Module, progress: Callable[[float, str], None] | None) -> pd.DataFrame:
    """Evaluate the units of a plan, all of one model, without storing anything."""
    frames = []
    for unit in plan.units:
        outcome, _ = work.evaluate(unit, model, progress)
        frames.append(_labelled_frame({**unit.labels, "model_sha256": model_sha256(unit.identity["model"])}, outcome))
    return _warn_of_flags(pd.concat(frames, ignore_index=True))


def _labelled_frame(labels: Mapping[str, Any], outcome: UnitOutcome) -> pd.DataFrame:
    columns = {**labels, "flags": ", ".join(marks(outcome.flags, outcome.frame, str(labels["attack"])))}
    return pd.concat([pd.DataFrame(columns, index=outcome.frame.index), outcome.frame], axis=1)


def _warn_of_flags(frame: pd.DataFrame) -> pd.DataFrame:
    for model, flags in frame[frame["flags"] != ""].groupby("model")["flags"]:
        warnings.warn(f"{model}: {in_words(union(flags))}", FlagWarning, stacklevel=3)
    return frame


def _describe_module(model: nn.Module, size: int, channels: int, classes: int) -> dict[str, Attackable]:
    """Return the description of a module by a reference: of one from `load_model` that still computes the same, its record.

    Any other module is called by its class and the start of a hash of its weights.
    """
    weights = weights_sha256(unfenced(model))
    loaded_from = getattr(model, "loaded_from", None)
    if isinstance(loaded_from, str) and not any(module.training for module in model.modules()):
        reference = parse(loaded_from)
        record, original = reference.open()
        if record.weights_sha256 == weights and not differs(fingerprint(model, size, channels), fingerprint(original, size, channels)):
            return {str(reference): record}
    kind = type(unfenced(model))
    architecture = {"name": "module", "type": f"{kind.__module__}.{kind.__qualname__}", "classes": classes}
    size_in_bytes = sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
    name = f"{kind.__name__}-{weights[:6]}"
    return {name: UserModel(name, kind.__name__, architecture, True, weights, size_in_bytes, "tensors", size, channels=channels)}


def _make_copier(model: nn.Module) -> Callable[[], nn.Module] | None:
    """Return a function that makes copies of the module as it is now; None if it cannot be copied."""
    try:
        original = copy.deepcopy(model)
    except Exception:
        # Copying a user's module may raise any exception.
        return None
    return lambda: copy.deepcopy(original)


__all__ = ["evaluate", "load_model", "results"]
