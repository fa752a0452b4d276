"""The harness from Python: modules and pandas frames."""

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
from model_zoo.own import describe
from model_zoo.packing.frozen import weights_sha256
from model_zoo.threat import ThreatModel, radius_text, threats_for
from model_zoo.user_code import user_code


class FlagWarning(UserWarning):
    """What was found out about a model makes its robust accuracy doubtful."""


DEFAULT_STORE = Path("results")


def load_model(model: str) -> nn.Module:
    """Load a registered model by id, or any packed model by the path of its record.

    Returns a frozen module in eval mode that takes float32 [N, 3, H, W] in [0, 1] and returns logits [N, classes].

    Raises
    ------
    UnknownNameError, DamagedFileError
        If there is no such model, or its file is not what its record says.
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
    """Attack a model and return one row per image: what identifies unit and model, then the columns of `harness.evaluation.outcomes`.

    The column `flags` names what a unit found out, see `harness.evaluation.marks`; a `FlagWarning` says so too.
    A module that `load_model` gave stands under its model's id, any other under its class and the beginning of a hash of its weights.

    Parameters
    ----------
    model : str, Path or nn.Module
        An id, the path of a record, or a module of your own: frozen, in eval mode, images in [0, 1] to logits.
    attack : str or sequence of str
        Names as `harness ls attacks` lists them.
    dataset : str
        A name as `harness ls datasets` lists it.
    n : int, optional
        Number of images, the first of the data set's order; all where None.
    radius : str, optional
        An exact fraction such as "8/255", with the norm before it ("Linf 8/255") if the attacks are for several; the protocol's for the
        data set and the attack's norm where None.
    engine : str
        What attacks differentiate, see `harness.engines`; registered models only.
    seed : int
        Base seed.
    data_dir : path, optional
        Where data that does not ship is; see `harness.datasets.data_folder`.
    store : path, optional
        Keep outcomes there and use what it holds; registered models only. Nothing is kept where None.
    progress : callable, optional
        Called with the fraction done of the current unit and the attack's component; for modules of your own.

    Raises
    ------
    UserError
        For unknown names, refused models or images, and units that failed.
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
    """Stored outcomes, one row for every image of every finished unit; an empty frame with the same columns if there are none.

    The column `flags` names what a unit found out, see `harness.evaluation.marks`; a `FlagWarning` says which models have any.
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
    """Id and family of a model that `load_model` gave and that still computes the same; else its class with the beginning of a hash."""
    reference = getattr(model, "loaded_from", None)
    if isinstance(reference, str) and not any(module.training for module in model.modules()):
        record = describe(reference)
        original = loading.load_model(reference)
        if record.weights_sha256 == weights and not differs(fingerprint(model, size), fingerprint(original, size)):
            return record.id, record.family
    return f"{type(unfenced(model)).__name__}-{weights[:6]}", None


def _copies(model: nn.Module) -> Callable[[], nn.Module] | None:
    """Gives the module as it is now, again and again; None where it cannot be copied."""
    try:
        untouched = copy.deepcopy(model)
    except Exception:
        # A module of anybody's making: anything may come out of copying it.
        return None
    return lambda: copy.deepcopy(untouched)


__all__ = ["evaluate", "load_model", "results"]
