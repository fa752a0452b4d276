"""Plans of a comparison: one model and its opponents, under a suite's attacks, on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from harness import attacks, datasets, engines
from harness.datasets.base import DatasetInfo
from harness.evaluation import subject
from harness.evaluation.unit import unit_threads
from harness.runner import protocol
from harness.runner.plan import Plan, plan_suite
from harness.runner.suite import Evaluation, Suite
from harness.runner.work import declared, open_checked
from model_zoo import registry
from model_zoo.errors import MissingDataError, UnknownNameError, UsageError
from model_zoo.references import RegisteredModel, UserReference, parse
from model_zoo.schema import Attackable, Record
from model_zoo.threat import ThreatModel
from model_zoo.user_code import user_code

ALL = "all"
# Attacks that `harness compare` adds for the compared model.
PROBES = ("square", "rays", "transfer")


def plan_comparison(
    model: str,
    against: Sequence[str],
    suite: Suite,
    dataset: str | None = None,
    n: int | None = None,
    all_images: bool = False,
    data_dir: Path | None = None,
    download: bool = False,
    threat: ThreatModel | None = None,
    attack_names: Sequence[str] = (),
) -> Plan:
    """Plan `model` (first) and its opponents under all attacks that a suite has for one data set.

    Parameters
    ----------
    model : str
        A reference as `model_zoo.references.parse` takes it.
    against : sequence of str
        Ids, paths of records, families (all shipped models that fit the data), or "all"; the suite's models if empty.
    dataset : str, optional
        One of the suite's data sets, or one of the same family, to which the suite's attacks and threats of that family then apply. Any
        other data set gets the attacks that the suite has for its first one, under the protocol's threat models. If None, the suite's
        first data set that fits the model.
    n, all_images, data_dir, download
        See `harness.runner.plan.plan_suite`.
    threat : ThreatModel, optional
        Threat model in place of the suite's; only attacks of its norm are planned.
    attack_names : sequence of str
        Attacks in place of the suite's.

    Raises
    ------
    UsageError, UnknownNameError
        If the suite has no data for the model, or there is no opponent, or an unknown one.
    MissingDataError
        If the data is not on this machine.
    """
    reference = parse(model)
    target = reference.describe()
    info, parts = _choose_data(target, suite, dataset, threat, attack_names)
    opponents = [name for name in _opponent_names(against, suite, info) if not _is_same_network(parse(name).describe(), target)]
    if not opponents:
        raise UsageError(f"no models to compare {target.id} with on {info.name}: name some with --against (`harness ls models`)")
    plan = plan_suite(
        suite.model_copy(update={"models": [str(reference), *opponents], "evaluation": parts}), data_dir, n, all_images, download
    )
    if not any(unit.model == str(reference) for unit in plan.units):
        raise MissingDataError(plan.omitted[0])
    return plan


def plan_probes(plan: Plan, n: int, data_dir: Path | None = None) -> Plan:
    """Plan attacks that show whether the compared model masks its gradients: Square, RayS and transfer.

    They run on the plan's images, or on the first `n` of the data set if those are more, under every Linf threat model of the plan. Square
    is not added for a threat model under which the plan has an attack with Square. `omitted` names the attacks that cannot be made.
    """
    first_unit = plan.units[0]
    target_units = [unit for unit in plan.units if unit.model == first_unit.model and unit.threat.norm == "Linf"]
    # Images of a folder cannot be loaded again by their name.
    is_registered = not datasets.is_user_data(first_unit.block.name)
    family = datasets.describe(first_unit.block.name).family if is_registered else first_unit.block.name
    blocks = list({unit.block.sha256: unit.block for unit in target_units}.values())
    if is_registered and n > sum(map(len, blocks)):
        blocks = datasets.load(first_unit.block.name, data_dir, n).blocks(protocol.BLOCK)
    units, omitted = [], []
    for name in PROBES:
        try:
            spec = attacks.bind(attacks.get(name), family, first_unit.record.weights_sha256)
        except UsageError as error:
            omitted.append(f"{name}: not tested ({error})")
            continue
        for threat in dict.fromkeys(unit.threat for unit in target_units):
            if name != "square" or not any(attacks.uses_square(unit.attack) for unit in target_units if unit.threat == threat):
                engine = engines.resolve("auto", first_unit.record, spec)
                units += [replace(first_unit, block=block, threat=threat, attack=spec, engine=engine) for block in blocks]
    return Plan(tuple(units), tuple(omitted))


def admit(plan: Plan) -> None:
    """Check the images and the first model of a plan before any attack; raises the errors of `harness.evaluation.gates`."""
    first = plan.units[0]
    with unit_threads(), user_code("model failed"):
        subject.admit(open_checked(first.model)[1], first.block, **declared(first.record))


def _choose_data(
    target: Attackable, suite: Suite, dataset: str | None, threat: ThreatModel | None, attack_names: Sequence[str]
) -> tuple[DatasetInfo, list[Evaluation]]:
    """Return the data set and the suite's parts for it, taken from another data set if the suite does not have this one."""
    infos = [datasets.describe(name) for name in dict.fromkeys(part.dataset for part in suite.evaluation)]
    if dataset is None:
        fitting = [info for info in infos if _fits(target, info)]
        if not fitting:
            raise UsageError(
                f"suite {suite.name!r} has no data for {target.id}, which has {target.classes} classes: name another with --suite"
            )
        selected = fitting[0]
    else:
        selected = datasets.describe(dataset)
        fitting = [info for info in infos if info.name == selected.name] or [info for info in infos if info.family == selected.family]
        if not fitting and threat is None and not _fits(target, selected):
            families = ", ".join(dict.fromkeys(info.family for info in infos))
            hint = "name another with --suite, or use --radius for your own images"
            raise UsageError(f"suite {suite.name!r} has no attacks on data like {selected.name}, only on {families}: {hint}")
    parts = [part for part in suite.evaluation if part.dataset == (fitting or infos)[0].name]
    # A folder is loaded by its path, not by the name of its images.
    changes: dict[str, Any] = {"dataset": dataset if dataset is not None and not fitting else selected.name}
    if attack_names:
        parts, changes["attacks"] = parts[:1], list(dict.fromkeys(attack_names))
    if threat is not None:
        names = dict.fromkeys(name for part in parts for name in changes.get("attacks", part.attacks))
        fitting_names = [name for name in names if attacks.get(name).norm == threat.norm]
        if not fitting_names:
            raise UsageError(f"none of the attacks {', '.join(names)} is for {threat.norm}, the norm of the radius")
        return selected, [parts[0].model_copy(update={**changes, "attacks": fitting_names, "threats": [str(threat)]})]
    if not fitting:
        changes["threats"] = []
        for norm in dict.fromkeys(attacks.get(name).norm for part in parts for name in changes.get("attacks", part.attacks)):
            # Raises a UsageError that asks for a radius.
            protocol.default_threat(norm, selected.family)
    return selected, [part.model_copy(update=changes) for part in parts]


def _fits(model: Attackable, info: DatasetInfo) -> bool:
    return model.classes == info.classes and (model.data is None or model.data.train == info.family)


def _opponent_names(against: Sequence[str], suite: Suite, info: DatasetInfo) -> list[str]:
    available = [name for name in registry.model_ids() if registry.absence(name) is None]
    shipped = {name: record for name in available if _fits(record := registry.get_record(name), info)}
    families = get_args(Record.model_fields["family"].annotation)
    opponents: list[str] = []
    for name in against or ([ALL] if suite.models == ALL else list(suite.models)):
        if name == ALL:
            opponents += shipped
        elif name in families:
            opponents += [model_id for model_id, record in shipped.items() if record.family == name]
        elif isinstance(reference := parse(name), UserReference):
            raise UsageError(f"{name} has no record to compare with: `harness add` makes one")
        elif isinstance(reference, RegisteredModel) and name not in registry.model_ids():
            raise UnknownNameError("model or family", name, [*registry.model_ids(), *families], "harness ls models")
        elif against or _fits(reference.describe(), info):
            opponents.append(name)
    return list(dict.fromkeys(opponents))


def _is_same_network(a: Attackable, b: Attackable) -> bool:
    return (a.weights_sha256, dict(a.architecture)) == (b.weights_sha256, dict(b.architecture))
