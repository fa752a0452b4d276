"""Plans: the units of a suite or a request, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from harness import attacks, corruptions, datasets, engines
from harness.attacks.spec import AttackSpec
from harness.corruptions import Corruption
from harness.datasets.base import ImageSet
from harness.runner import protocol
from harness.runner.identity import unit_id, unit_seed
from harness.runner.suite import Evaluation, Suite
from model_zoo import registry
from model_zoo.errors import MissingDataError, UsageError, UserError
from model_zoo.references import parse
from model_zoo.schema import Attackable
from model_zoo.threat import CORRUPTED, ThreatModel

# Columns whose values all outcomes behind one reported number share.
CELL = ("dataset", "norm", "radius", "model", "attack")


def model_identity(record: Attackable) -> dict[str, Any]:
    """Return the part of a unit's identity that describes the model, as plain JSON values: everything that decides its outcomes."""
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
    """Smallest thing that is run, stored and resumed: one model, one block of images, one threat model, one attack.

    A corruption takes the place of an attack; the threat model then is "corruptions" and its severity, for example "corruptions 3".
    `model` is the text of the reference to the model of `record`; `engine` is one of `engines.NAMES` except "auto".
    """

    record: Attackable
    model: str
    block: ImageSet
    threat: ThreatModel
    attack: AttackSpec | Corruption
    base_seed: int
    engine: str = "dense"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that the outcome depends on, as plain JSON values."""
        return {
            "protocol": protocol.VERSION,
            "model": model_identity(self.record),
            "engine": self.engine,
            "data": {"dataset": self.block.name, "block": self.block.sha256},
            "threat": {"norm": self.threat.norm, "radius": self.threat.size_text},
            "attack": self._attack_identity,
            "attack_batch": protocol.BLOCK,
            "base_seed": self.base_seed,
        }

    @property
    def _attack_identity(self) -> dict[str, Any]:
        return self.attack.identity(int(self.threat.radius)) if isinstance(self.attack, Corruption) else self.attack.identity()

    @cached_property
    def id(self) -> str:
        """sha256 of the identity, in hex."""
        return unit_id(self.identity)

    @property
    def seed(self) -> int:
        """Seed of the unit, unsigned 64-bit, derived from its id."""
        return unit_seed(self.id)

    @property
    def labels(self) -> dict[str, Any]:
        """Names of the unit for readers: the columns in front of its outcomes."""
        return {
            "unit": self.id,
            "protocol": protocol.VERSION,
            "model": self.record.id,
            "family": self.record.family,
            "dataset": self.block.name,
            "norm": self.threat.norm,
            "radius": self.threat.size_text,
            "attack": self.attack.name,
            "seed": self.base_seed,
        }

    def __str__(self) -> str:
        return f"{self.record.id} · {self.attack.name} · {self.block.name}[{self.block.index[0]}…] · {self.threat}"


@dataclass(frozen=True)
class Plan:
    """Units in the order in which they run (model by model), and one line for each part that was omitted, with the reason.

    Raises
    ------
    UsageError
        If two different models have the same id.
    """

    units: tuple[Unit, ...]
    omitted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        by_id: dict[str, Unit] = {}
        for unit in self.units:
            first = by_id.setdefault(unit.record.id, unit)
            if first.identity["model"] != unit.identity["model"]:
                raise UsageError(f"two models are called {unit.record.id}, {first.model} and {unit.model}: give one of them another id")

    @property
    def ids(self) -> list[str]:
        """Ids of the units, in order."""
        return [unit.id for unit in self.units]

    @property
    def notes(self) -> list[str]:
        """What a reader must know about how images were read, one line each."""
        return list(dict.fromkeys(f"{unit.block.name}: {note}" for unit in self.units for note in unit.block.notes))

    def expected(self) -> list[dict[str, Any]]:
        """Return the planned number of images per cell: `dataset, norm, radius, model, attack, images`."""
        cells: dict[tuple[str, ...], int] = {}
        for unit in self.units:
            cell = tuple(str(unit.labels[name]) for name in CELL)
            cells[cell] = cells.get(cell, 0) + len(unit.block)
        return [{**dict(zip(CELL, cell, strict=True)), "images": images} for cell, images in cells.items()]


def plan_suite(
    suite: Suite, data_dir: Path | None = None, n: int | None = None, all_images: bool = False, download: bool = False, engine: str = "auto"
) -> Plan:
    """Return the plan of a suite; parts whose data is not on this machine are left out.

    Parameters
    ----------
    suite : Suite
        The suite to run.
    data_dir : Path, optional
        Folder of the data that does not ship.
    n : int, optional
        Number of images in place of the suite's.
    all_images : bool
        Whether to use all images of every data set.
    download : bool
        Whether data sets that are not on this machine may be downloaded.
    engine : str
        One of `engines.NAMES`.

    Raises
    ------
    UnknownNameError
        If a model, attack or data set does not exist; the message names the suite.
    """
    try:
        return _plan_suite(suite, data_dir, n, all_images, download, engine)
    except UsageError as error:
        error.args = (f"suite {suite.name}: {error}",)
        raise


def _plan_suite(suite: Suite, data_dir: Path | None, n: int | None, all_images: bool, download: bool, engine: str) -> Plan:
    models = registry.model_ids() if suite.models == "all" else suite.models
    descriptions = _describe_models(models)
    omitted: list[str] = []
    units: list[Unit] = []
    for part in suite.evaluation:
        info = datasets.describe(part.dataset)
        count = None if all_images else (n or part.n)
        try:
            images = datasets.load(part.dataset, data_dir, min(count, info.size) if count and info.size else count, download)
        except MissingDataError as error:
            omitted.append(str(error))
            continue
        # "all" means all that fit, so only a model that was named and does not fit is reported.
        leave_out = (lambda reason: None) if suite.models == "all" else omitted.append
        units += _expand(descriptions, part, images, info.family, suite.seed, leave_out, engine)
    # Model by model, so that each is loaded once; within a model, in the suite's order.
    positions = {model: position for position, model in enumerate(descriptions)}
    return Plan(tuple(sorted(units, key=lambda unit: positions[unit.model])), tuple(dict.fromkeys(omitted)))


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
    """Return the plan of models under attacks on one data set; raise a UserError if a model does not fit the data or an attack."""
    descriptions = _describe_models(models)
    images = datasets.load(dataset, data_dir, n, download)
    return plan_described(descriptions, attack_names, images, datasets.describe(dataset).family, threats, seed, engine)


def plan_described(
    descriptions: Mapping[str, Attackable],
    attack_names: Sequence[str],
    images: ImageSet,
    family: str,
    threats: Sequence[ThreatModel],
    seed: int,
    engine: str,
) -> Plan:
    """Return the plan of `plan_request` for models that are described, by the text of their references, and images of a family."""
    part = Evaluation(dataset=images.name, attacks=list(attack_names), threats=[str(threat) for threat in threats])

    def refuse(reason: str) -> None:
        raise UserError(reason)

    return Plan(tuple(_expand(descriptions, part, images, family, seed, refuse, engine)))


def _describe_models(models: Iterable[str]) -> dict[str, Attackable]:
    """Return the description of each distinct model, by the text of its reference."""
    return {str(reference): reference.describe() for reference in map(parse, models)}


def _expand(
    descriptions: Mapping[str, Attackable],
    part: Evaluation,
    images: ImageSet,
    family: str,
    seed: int,
    leave_out: Callable[[str], None],
    engine: str,
) -> list[Unit]:
    specs = [attacks.get(name) for name in part.attacks]
    blocks = images.blocks(protocol.BLOCK)
    changes = [corruptions.get(name) for name in part.corruptions]
    if changes:
        corruptions.check_images(images)
    for spec in specs:
        attacks.check_parameters(spec)
    units = []
    for model, record in descriptions.items():
        trained_on = None if record.data is None else datasets.family_of(record.data.train)
        if record.classes != len(images.classes) or (family in datasets.kinds() and trained_on not in (None, family)):
            training_text = "" if trained_on is None else f"trained on {trained_on}, "
            leave_out(f"model {record.id}: {training_text}{record.classes} classes, not for {images.name}")
            continue
        for unbound in specs:
            try:
                spec = attacks.bind(unbound, family, record.weights_sha256)
            except UsageError as error:
                leave_out(f"model {record.id}: {error}")
                continue
            for threat in threats_of(spec, [ThreatModel.parse(text) for text in part.threats], family):
                attacks.check(spec, threat, record.classes)
                resolved = engines.resolve(engine, record, spec)
                units += [Unit(record, model, block, threat, spec, seed, resolved) for block in blocks]
        for corruption, severity in product(changes, part.severities):
            # The model itself, because nothing is differentiated.
            units += [Unit(record, model, block, ThreatModel(CORRUPTED, Fraction(severity)), corruption, seed) for block in blocks]
    return units


def threats_of(spec: AttackSpec, threats: Sequence[ThreatModel], family: str) -> list[ThreatModel]:
    """Return the threat models of an attack's norm; if `threats` is empty, the protocol's for the family of the data.

    Raises
    ------
    UserError
        If none of the threat models has the attack's norm.
    """
    fitting = [threat for threat in threats if threat.norm == spec.norm]
    if threats and not fitting:
        raise UserError(f"attack {spec.name} is for {spec.norm} threat models, not for {', '.join(map(str, threats))}")
    return fitting or [protocol.default_threat(spec.norm, family)]
