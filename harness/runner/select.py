"""Selection of stored units by id, model, attack, data and other properties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from harness import datasets
from harness.runner.documents import Manifest
from harness.runner.identity import model_sha256
from harness.runner.plan import model_identity, plan_suite
from harness.runner.results import cell
from harness.runner.store import Store
from harness.runner.suite import get_suite
from model_zoo import registry
from model_zoo.errors import UsageError
from model_zoo.references import RecordFile, parse_recorded
from model_zoo.threat import parse_radius, radius_text


@dataclass(frozen=True)
class Filter:
    """Conditions that a selected unit meets; an empty or None field sets no condition.

    Attributes
    ----------
    units : tuple of str
        First characters of ids, each of exactly one unit.
    suite : str or None
        Name of a suite; units that differ from its units only in their images are selected.
    models : tuple of str
        Ids, or paths of records. A registered model and a record are matched by content, any other id by name.
    radii : tuple of str
        Fractions such as "8/255".
    images : int
        Number of images of the unit.
    """

    units: tuple[str, ...] = ()
    suite: str | None = None
    models: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    radii: tuple[str, ...] = ()
    images: int | None = None
    engine: str | None = None
    seed: int | None = None


def selected(store: Store, unit_filter: Filter, data_dir: Path | None = None) -> list[Manifest]:
    """Return the manifests of the finished and valid units that a filter selects, in order of id.

    Raises
    ------
    UsageError
        If the filter sets no condition, the beginning of an id does not match exactly one unit, or two models have the same id.
    """
    if all(getattr(unit_filter, item.name) in ((), None) for item in fields(unit_filter)):
        raise UsageError("select units by the first characters of their ids, or by options (--model, --attack, ...)")
    # Units of a damaged pack could be among them; its error is better than none of them.
    store.ids()
    manifests = list(store.manifests())
    ids = {_unit_of_prefix(prefix, manifests, store) for prefix in unit_filter.units}
    tests: list[Callable[[Manifest], bool]] = []
    if unit_filter.units:
        tests.append(lambda manifest: manifest.unit in ids)
    if unit_filter.suite is not None:
        cells = {cell(unit.identity) for unit in plan_suite(get_suite(unit_filter.suite), data_dir).units}
        tests.append(lambda manifest: cell(manifest.identity) in cells)
    if unit_filter.models:
        hashes = {_hash_of_model(model, manifests) for model in unit_filter.models}
        tests.append(lambda manifest: model_sha256(manifest.identity["model"]) in hashes)
    if unit_filter.radii:
        radii = {radius_text(parse_radius(radius)) for radius in unit_filter.radii}
        tests.append(lambda manifest: manifest.labels.radius in radii)
    if unit_filter.attacks:
        tests.append(lambda manifest: manifest.labels.attack in unit_filter.attacks)
    if unit_filter.datasets:
        names = {datasets.describe(name).name if datasets.is_user_data(name) else name for name in unit_filter.datasets} | {
            *unit_filter.datasets
        }
        tests.append(lambda manifest: manifest.labels.dataset in names)
    if unit_filter.images is not None:
        tests.append(lambda manifest: manifest.images == unit_filter.images)
    if unit_filter.engine is not None:
        tests.append(lambda manifest: manifest.identity["engine"] == unit_filter.engine)
    if unit_filter.seed is not None:
        tests.append(lambda manifest: manifest.identity["base_seed"] == unit_filter.seed)
    return [manifest for manifest in manifests if manifest.invalid is None and all(test(manifest) for test in tests)]


def _unit_of_prefix(prefix: str, manifests: list[Manifest], store: Store) -> str:
    matches = [manifest.unit for manifest in manifests if manifest.unit.startswith(prefix)]
    if len(matches) != 1:
        raise UsageError(f"{len(matches)} units of {store.root} begin with {prefix!r}")
    return matches[0]


def _hash_of_model(model: str, manifests: list[Manifest]) -> str:
    reference = parse_recorded(model)
    if isinstance(reference, RecordFile) or model in registry.model_ids():
        return model_sha256(model_identity(reference.describe()))
    hashes = {model_sha256(manifest.identity["model"]) for manifest in manifests if manifest.labels.model == model}
    if len(hashes) > 1:
        raise UsageError(f"{len(hashes)} models are called {model}: name the path of a record")
    return hashes.pop() if hashes else ""
