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
from harness.evaluation.unit import evaluate_unit
from harness.runner import protocol
from harness.runner.execute import execute
from harness.runner.identity import model_sha256, unit_id, unit_seed
from harness.runner.plan import plan_request, threats_of
from harness.runner.results import read, select
from harness.runner.store import Store
from harness.runner.work import declared, prepared
from model_zoo import loading
from model_zoo.errors import UsageError, UserError
from model_zoo.fence import Fenced, unfenced
from model_zoo.fingerprint import differs, fingerprint
from model_zoo.packing.frozen import weights_sha256
from model_zoo.references import parse
from model_zoo.threat import ThreatModel, radius_text, threats_for
from model_zoo.user_code import user_code


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
        A name as listed by `harness ls datasets`.
    n : int, optional
        Number of images, the first in the data set's order; None means all.
    radius : str, optional
        An exact fraction such as "8/255", with the norm before it ("Linf 8/255") if the attacks have several norms. If None, the
        protocol's radius for the data set and the attack's norm.
    engine : str
        What attacks differentiate, see `harness.engines`; for registered models only.
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
        raise UsageError(f"model: an id, a path or a torch.nn.Module expected, not {model!r} (call it first if it makes the module)")
    names = [attack] if isinstance(attack, str) else list(attack)
    folder = Path(data_dir) if data_dir is not None else None
    threats = threats_for((attacks.get(name).norm for name in names), [radius] if radius is not None else [])
    if isinstance(model, nn.Module):
        if store is not None:
            raise UserError("a store holds registered models: give a model id or a record, or leave the store out")
        with user_code("model failed"):
            return _evaluate_module(model, names, threats, dataset, n, seed, folder, progress)
    plan = plan_request([model], names, dataset, n, threats, seed, folder, engine=engine)
    if store is None:
        loaded = loading.load_model(model)
        frames = []
        for unit in plan.units:
            attacked = prepared(unit, loaded, "cpu").model
            given = declared(unit.record)
            outcome = evaluate_unit(loaded, unit.block, unit.threat, unit.attack, unit.seed, progress, attacked=attacked, **given)
            labels = {**unit.labels, "model_sha256": model_sha256(unit.identity["model"])}
            frames.append(_beside(labels, outcome))
        return _warned(pd.concat(frames, ignore_index=True))
    kept = Store(Path(store))
    report = execute(plan, kept)
    if report.failed:
        raise UserError(report.failed[0][1])
    return _warned(pd.concat([kept.read(unit.id).frame for unit in plan.units], ignore_index=True))


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
    return _warned(select(read(Path(store)), model, attack, dataset))


def _evaluate_module(
    model: nn.Module,
    names: Sequence[str],
    threats: Sequence[ThreatModel],
    dataset: str,
    n: int | None,
    seed: int,
    data_dir: Path | None,
    progress: Callable[[float, str], None] | None,
) -> pd.DataFrame:
    fenced = model if isinstance(model, Fenced) else Fenced(model, _copies(model))
    images = datasets.load(dataset, data_dir, n=n)
    info = datasets.describe(dataset)
    weights = weights_sha256(unfenced(model))
    name, family = _named(model, weights, images.images.shape[1])
    frames = []
    for spec in (attacks.bind(attacks.get(named), info.family, weights) for named in names):
        threat = threats_of(spec, threats, info.family)[0]
        attacks.check(spec, threat, len(images.classes))
        for start in range(0, len(images), protocol.BLOCK):
            block = images.slice(start, min(start + protocol.BLOCK, len(images)))
            identity = {"weights": weights, "block": block.sha256, "threat": str(threat), "attack": spec.identity(), "seed": seed}
            unit = unit_id(identity)
            labels = {
                "unit": unit,
                "protocol": protocol.VERSION,
                "model": name,
                "family": family,
                "dataset": images.name,
                "norm": threat.norm,
                "radius": radius_text(threat.radius),
                "attack": spec.name,
                "seed": seed,
                "model_sha256": model_sha256({"weights": weights}),
            }
            outcome = evaluate_unit(fenced, block, threat, spec, unit_seed(unit), progress)
            frames.append(_beside(labels, outcome))
    return _warned(pd.concat(frames, ignore_index=True))


def _beside(labels: Mapping[str, Any], outcome: UnitOutcome) -> pd.DataFrame:
    whole = {**labels, "flags": ", ".join(marks(outcome.flags, outcome.frame, str(labels["attack"])))}
    return pd.concat([pd.DataFrame(whole, index=outcome.frame.index), outcome.frame], axis=1)


def _warned(frame: pd.DataFrame) -> pd.DataFrame:
    for model, flags in frame[frame["flags"] != ""].groupby("model")["flags"]:
        warnings.warn(f"{model}: {in_words(union(flags))}", FlagWarning, stacklevel=3)
    return frame


def _named(model: nn.Module, weights: str, size: int) -> tuple[str, str | None]:
    """Return id and family of a module from `load_model` if it still computes the same; otherwise its class with the start of a hash."""
    loaded_from = getattr(model, "loaded_from", None)
    if isinstance(loaded_from, str) and not any(module.training for module in model.modules()):
        record, original = parse(loaded_from).open()
        if record.weights_sha256 == weights and not differs(fingerprint(model, size), fingerprint(original, size)):
            return record.id, record.family
    return f"{type(unfenced(model)).__name__}-{weights[:6]}", None


def _copies(model: nn.Module) -> Callable[[], nn.Module] | None:
    """Return a function that makes copies of the module as it is now; None if it cannot be copied."""
    try:
        untouched = copy.deepcopy(model)
    except Exception:
        # Copying a user's module may raise any exception.
        return None
    return lambda: copy.deepcopy(untouched)


__all__ = ["evaluate", "load_model", "results"]
