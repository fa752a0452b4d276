"""Planning: a suite or a request becomes a list of units, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import attacks, datasets, engines
from harness.attacks.spec import AttackSpec
from harness.datasets.base import ImageSet
from harness.runner import protocol
from harness.runner.identity import unit_id, unit_seed
from harness.runner.suite import Evaluation, Suite
from model_zoo import registry
from model_zoo.errors import MissingDataError, UsageError, UserError
from model_zoo.own import describe
from model_zoo.schema import Attackable
from model_zoo.threat import ThreatModel, radius_text

# What a reader calls a number: all outcomes with these in common.
CELL = ("dataset", "norm", "radius", "model", "attack")


def model_identity(record: Attackable) -> dict[str, Any]:
    """What decides a model's outcomes, as plain JSON values: the part of a unit's identity that is about the model."""
    draws = {"draws": list(protocol.DRAWS)} if record.stochastic else {}
    return {
        "weights": record.weights_sha256,
        "architecture": record.architecture,
        "affine": record.affine,
        "backward": record.backward,
        **draws,
    }


@dataclass(frozen=True)
class Unit:
    """The smallest thing that is run, stored, resumed: one model, one block of images, one threat model, one attack."""

    record: Attackable
    model: str
    block: ImageSet
    threat: ThreatModel
    attack: AttackSpec
    base_seed: int
    engine: str = "dense"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything the outcome depends on, as plain JSON values."""
        return {
            "protocol": protocol.VERSION,
            "model": model_identity(self.record),
            "engine": self.engine,
            "data": {"dataset": self.block.name, "block": self.block.sha256},
            "threat": {"norm": self.threat.norm, "radius": radius_text(self.threat.radius)},
            "attack": self.attack.identity(),
            "attack_batch": protocol.BLOCK,
            "base_seed": self.base_seed,
        }

    @cached_property
    def id(self) -> str:
        """sha256 of the identity, in hex."""
        return unit_id(self.identity)

    @property
    def seed(self) -> int:
        """The unit's own seed."""
        return unit_seed(self.id)

    @property
    def labels(self) -> dict[str, Any]:
        """What a reader calls this unit: the columns that stand beside its outcomes."""
        return {
            "unit": self.id,
            "protocol": protocol.VERSION,
            "model": self.record.id,
            "family": self.record.family,
            "dataset": self.block.name,
            "norm": self.threat.norm,
            "radius": radius_text(self.threat.radius),
            "attack": self.attack.name,
            "seed": self.base_seed,
        }

    def __str__(self) -> str:
        return f"{self.record.id} · {self.attack.name} · {self.block.name}[{self.block.index[0]}…] · {self.threat}"


@dataclass(frozen=True)
class Plan:
    """Units in the order they run (model by model), and what was left out with the reason."""

    units: tuple[Unit, ...]
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        named: dict[str, Unit] = {}
        for unit in self.units:
            other = named.setdefault(unit.record.id, unit)
            if other.identity["model"] != unit.identity["model"]:
                raise UsageError(f"two models are called {unit.record.id}, {other.model} and {unit.model}: give one of them another id")

    @property
    def ids(self) -> list[str]:
        """The units' ids, in order."""
        return [unit.id for unit in self.units]

    @property
    def notes(self) -> list[str]:
        """What is to be known of how images were read, a line each."""
        return list(dict.fromkeys(f"{unit.block.name}: {note}" for unit in self.units for note in unit.block.notes))

    def expected(self) -> list[dict[str, Any]]:
        """Planned images of every cell: `dataset, norm, radius, model, attack, images`."""
        cells: dict[tuple[str, ...], int] = {}
        for unit in self.units:
            cell = tuple(str(unit.labels[name]) for name in CELL)
            cells[cell] = cells.get(cell, 0) + len(unit.block)
        return [{**dict(zip(CELL, cell, strict=True)), "images": images} for cell, images in cells.items()]


def plan_suite(
    suite: Suite, data_dir: Path | None = None, n: int | None = None, whole: bool = False, download: bool = False, engine: str = "auto"
) -> Plan:
    """Expand a suite.

    Parameters
    ----------
    suite : Suite
        What to run.
    data_dir : Path, optional
        Where data that does not ship is.
    n : int, optional
        Number of images instead of the suite's.
    whole : bool
        All images of every data set instead.
    download : bool
        Whether data sets that are absent may be downloaded.
    engine : str
        One of `engines.NAMES`.

    Raises
    ------
    UnknownNameError
        For a model, attack or data set that does not exist, before anything runs.
    """
    models = registry.model_ids() if suite.models == "all" else suite.models
    left_out: list[str] = []
    units: list[Unit] = []
    for part in suite.evaluation:
        info = datasets.describe(part.dataset)
        count = None if whole else (n or part.n)
        try:
            images = datasets.load(part.dataset, data_dir, min(count, info.size) if count and info.size else count, download)
        except MissingDataError as error:
            left_out.append(str(error))
            continue
        # "all" means all that fit; a model that was named and does not is left out with a word.
        leave_out = (lambda reason: None) if suite.models == "all" else left_out.append
        units += _expand(models, part, images, info.family, suite.seed, leave_out, engine)
    # Model by model, so that each is loaded once; inside a model in the suite's order.
    order = {model: position for position, model in enumerate(models)}
    return Plan(tuple(sorted(units, key=lambda unit: order[unit.model])), tuple(dict.fromkeys(left_out)))


def plan_request(
    models: Sequence[str],
    attack_names: Sequence[str],
    dataset: str,
    n: int | None = None,
    threats: Sequence[ThreatModel] = (),
    seed: int = 0,
    data_dir: Path | None = None,
    download: bool = False,
    engine: str = "auto",
) -> Plan:
    """Plan given models against given attacks on one data set; a model that does not fit the data is an error here."""
    images = datasets.load(dataset, data_dir, n, download)
    part = Evaluation(dataset=dataset, attacks=list(attack_names), threats=[str(threat) for threat in threats])

    def refuse(reason: str) -> None:
        raise UserError(reason)

    return Plan(tuple(_expand(models, part, images, datasets.describe(dataset).family, seed, refuse, engine)))


def _expand(
    models: Iterable[str], part: Evaluation, images: ImageSet, family: str, seed: int, leave_out: Callable[[str], None], engine: str
) -> list[Unit]:
    specs = [attacks.get(name) for name in part.attacks]
    units = []
    for model in models:
        record = describe(model)
        trained_on = None if record.data is None else record.data.train
        if record.classes != len(images.classes) or (family in protocol.LINF_RADIUS and trained_on not in (None, family)):
            trained = "" if trained_on is None else f"trained on {trained_on}, "
            leave_out(f"model {record.id}: {trained}{record.classes} classes, not for {images.name}")
            continue
        for named in specs:
            try:
                spec = attacks.bind(named, family, record.weights_sha256)
            except UsageError as error:
                leave_out(f"model {record.id}: {error}")
                continue
            for threat in threats_of(spec, [ThreatModel.parse(text) for text in part.threats], family):
                attacks.check(spec, threat, record.classes)
                for start in range(0, len(images), protocol.BLOCK):
                    block = images.slice(start, min(start + protocol.BLOCK, len(images)))
                    units.append(Unit(record, model, block, threat, spec, seed, engines.resolve(engine, record, spec)))
    return units


def threats_of(spec: AttackSpec, threats: Sequence[ThreatModel], family: str) -> list[ThreatModel]:
    """Those of the threat models that an attack is for; without any, the protocol's for the family of the data.

    Raises
    ------
    UserError
        If none of them is of the attack's norm.
    """
    fitting = [threat for threat in threats if threat.norm == spec.norm]
    if threats and not fitting:
        raise UserError(f"attack {spec.name} is for {spec.norm}; none of {', '.join(map(str, threats))} is")
    return fitting or [protocol.default_threat(spec.norm, family)]
