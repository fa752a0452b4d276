"""Lists of everything that is registered, and footprints of models."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_zoo.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Rows = list[dict[str, Any]]


def models() -> pd.DataFrame:
    """Return the registered models, one row each.

    Returns
    -------
    pandas.DataFrame
        `id, family, keep_ratio, weight_bits, activation_bits, bytes` (of the packed checkpoint), `trained_on, threat` (that it was
        trained for) and `present` (True, False, or "outcomes only").
    """
    import pandas as pd

    return pd.DataFrame(list_models())


def footprint(model: str | Sequence[str]) -> pd.DataFrame:
    """Return what models cost to store and to run for one image, one row per model.

    Parameters
    ----------
    model : str or sequence of str
        Ids or paths of records.

    Returns
    -------
    pandas.DataFrame
        `id`, `weight_bits` and the fields of `model_zoo.footprint.Footprint`: bytes by every convention, activations, operations.

    Raises
    ------
    UserError
        If a model is unknown or its file is not what its record says.
    """
    import pandas as pd

    return pd.DataFrame([footprint_of(name) for name in ([model] if isinstance(model, str) else model)])


def footprint_of(model: str, layers: bool = False) -> dict[str, Any]:
    """Return the footprint of one model as plain values; with `layers`, also that of every layer."""
    from model_zoo.footprint import measure, measure_layers
    from model_zoo.packing.packed import load_packed
    from model_zoo.references import parse_recorded

    reference = parse_recorded(model)
    record, network = reference.open()
    path, shape = reference.checkpoint_path, record.input_shape
    is_packed = record.architecture["name"] != "onnx"
    row = {
        "id": record.id,
        "weight_bits": record.weight_bits,
        "file": "packed" if is_packed else "ONNX",
        **asdict(measure(network, path, shape, record.signs_drawn)),
        "left_out": load_packed(path).header["provenance"].get("left_out", {}) if is_packed else {},
    }
    if layers:
        row["layers"] = [{**asdict(layer), "keep_ratio": layer.keep_ratio} for layer in measure_layers(network, shape)]
    return row


def list_cells(store: Path, on_error: Callable[[UserError], None] | None = None) -> Rows:
    """List the models that were trained for cells of a paper's tables, from the folder "cells" of a store.

    A document that cannot be read is passed to `on_error`, or raised if there is no such function.
    """
    from harness.reproduction.cells import CELLS
    from harness.runner.trainings import Trainings

    trainings, rows = Trainings(store / CELLS), []
    for item in trainings.read_all():
        try:
            if isinstance(item, UserError):
                raise item
            record = item.model()
        except UserError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        training = record.training
        rows.append(
            {
                "id": record.id,
                "family": record.family,
                "keep_ratio": record.keep_ratio,
                "bytes": record.checkpoint.bytes,
                "hold_out_clean": None if training is None else training.hold_out_clean_accuracy,
                "hold_out_pgd": None if training is None else training.hold_out_pgd_accuracy,
                "minutes": round(item.seconds / 60, 1),
                "marks": ", ".join(item.marks),
                "present": trainings.record_path(item).is_file(),
            }
        )
    return rows


def count_cells(store: Path) -> int:
    """Return the number of models that `list_cells` lists; 0 if they cannot be read."""
    from harness.reproduction.cells import CELLS
    from harness.runner.trainings import Trainings

    try:
        return len(Trainings(store / CELLS).ids())
    except UserError:
        return 0


def list_models(on_error: Callable[[UserError], None] | None = None) -> Rows:
    """List registered models. A record that cannot be read is passed to `on_error`, or raised if there is no such function."""
    from model_zoo import registry

    rows = []
    for name in registry.model_ids():
        try:
            record = registry.get_record(name)
        except UserError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        rows.append(
            {
                "id": record.id,
                "family": record.family,
                "keep_ratio": record.keep_ratio,
                "weight_bits": record.weight_bits,
                "activation_bits": record.activation_bits,
                "bytes": record.checkpoint.bytes,
                "trained_on": record.data.train,
                "threat": f"{record.threat.norm} {record.threat.radius}",
                "present": registry.checkpoint_path(name).is_file() if registry.absence(name) is None else "outcomes only",
            }
        )
    return rows


def list_datasets(data_dir: Path | None = None) -> Rows:
    """List data sets, and whether they are on this machine."""
    from harness import datasets

    infos = [datasets.describe(name) for name in datasets.names()]
    return [
        {
            "name": info.name,
            "images": info.size,
            "classes": info.classes,
            "present": datasets.present(info.name, data_dir),
            "title": info.title,
        }
        for info in infos
    ]


def list_attacks() -> Rows:
    """List attacks."""
    from harness.plugins import ATTACKS

    return [{"name": name, "norm": spec.norm, "adapter": spec.adapter, "title": spec.title} for name, spec in ATTACKS.items()]


def list_corruptions() -> Rows:
    """List corruptions."""
    from harness.plugins import CORRUPTIONS

    return [{"name": name, "group": corruption.group, "title": corruption.title} for name, corruption in CORRUPTIONS.items()]


def list_suites() -> Rows:
    """List suites with their attacks and corruptions."""
    from harness.plugins import SUITES

    return [
        {
            "name": name,
            "models": suite.models if isinstance(suite.models, str) else len(suite.models),
            "attacks": ", ".join(dict.fromkeys(name for part in suite.evaluation for name in (*part.attacks, *part.corruptions))),
            "title": suite.title,
        }
        for name, suite in SUITES.items()
    ]


def list_tables() -> Rows:
    """List tables of reports, those of the paper last."""
    from harness.plugins import TABLES
    from harness.reproduction import specification

    rows = [{"name": name, "title": table.title} for name, table in TABLES.items()]
    return rows + [{"name": name, "title": specification.get(name).title} for name in specification.names()]


def list_recipes() -> Rows:
    """List training recipes."""
    from model_zoo.plugins import RECIPES

    return [
        {
            "name": recipe.id,
            "dataset": recipe.data.dataset,
            "threat": recipe.attack.threat,
            "training": f"{recipe.attack.method}, {recipe.attack.steps} step{'s' if recipe.attack.steps > 1 else ''}",
            "epochs": recipe.optimiser.epochs,
            "title": recipe.title,
        }
        for _, recipe in RECIPES.items()
    ]


def list_formats() -> Rows:
    """List formats of other people's checkpoints, and the published files of each."""
    from model_zoo.adapters.published import published_files
    from model_zoo.plugins import FORMATS

    return [
        {"name": name, "reads": adapter.reads, "files": adapter.files, "published": [row.name for row in published_files(name)]}
        for name, adapter in FORMATS.items()
    ]


def list_families() -> Rows:
    """List model families with their options; an option without a default must be given."""
    from model_zoo.plugins import FAMILIES

    return [
        {
            "name": name,
            "kind": family.kind,
            "weight_bits": family.weight_bits,
            "method": family.method,
            "options": ", ".join(f"{option}={value}" if value is not None else option for option, value in family.defaults.items()),
        }
        for name, family in FAMILIES.items()
    ]


def list_methods() -> Rows:
    """List training methods."""
    from model_zoo.plugins import METHODS

    return [{"name": name, "title": _first_line(method)} for name, method in METHODS.items()]


def list_architectures() -> Rows:
    """List architectures and the modules that define them."""
    from model_zoo.plugins import ARCHITECTURES

    rows = []
    for name, builder in ARCHITECTURES.items():
        function = getattr(builder, "func", builder)
        rows.append({"name": name, "defined in": function.__module__, "title": _first_line(sys.modules[function.__module__])})
    return rows


def list_figures() -> Rows:
    """List figures of reports."""
    from harness.plugins import FIGURES

    return [{"name": name, "title": _first_line(sys.modules[figures.__module__])} for name, figures in FIGURES.items()]


# What `harness ls` can list, except models and data sets, whose functions take arguments.
KINDS: dict[str, Callable[[], Rows]] = {
    "attacks": list_attacks,
    "corruptions": list_corruptions,
    "suites": list_suites,
    "tables": list_tables,
    "figures": list_figures,
    "recipes": list_recipes,
    "families": list_families,
    "methods": list_methods,
    "architectures": list_architectures,
    "formats": list_formats,
}


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]
