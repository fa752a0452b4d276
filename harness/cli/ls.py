"""`harness ls`: list models, data sets, attacks, suites, tables, recipes or formats."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from harness.cli.console import err, out
from model_zoo.errors import UserError

Rows = list[dict[str, Any]]


def _models(data_dir: Path | None) -> Rows:
    from model_zoo import registry

    rows = []
    for name in registry.model_ids():
        try:
            record = registry.get_record(name)
        except UserError as error:
            err.print(f"harness: {error}", style="yellow", markup=False)
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


def _datasets(data_dir: Path | None) -> Rows:
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


def _attacks(data_dir: Path | None) -> Rows:
    from harness import attacks

    specs = [attacks.get(name) for name in attacks.names()]
    return [{"name": spec.name, "norm": spec.norm, "adapter": spec.adapter, "title": spec.title} for spec in specs]


def _suites(data_dir: Path | None) -> Rows:
    from harness.runner import suite

    suites = [suite.get_suite(name) for name in suite.suite_names()]
    return [
        {
            "name": item.name,
            "models": item.models if isinstance(item.models, str) else len(item.models),
            "attacks": ", ".join(dict.fromkeys(name for part in item.evaluation for name in part.attacks)),
            "title": item.title,
        }
        for item in suites
    ]


def _tables(data_dir: Path | None) -> Rows:
    from harness.reporting import tables

    return [{"name": name, "title": tables.get(name).title} for name in tables.names()]


def _recipes(data_dir: Path | None) -> Rows:
    from model_zoo.registry import package_folder
    from model_zoo.training.recipe import Recipe

    recipes = [Recipe.load(path) for path in sorted(package_folder("recipes").glob("*.toml"))]
    return [
        {
            "name": recipe.id,
            "dataset": recipe.data.dataset,
            "threat": recipe.attack.threat,
            "training": f"{recipe.attack.method}, {recipe.attack.steps} step{'s' if recipe.attack.steps > 1 else ''}",
            "epochs": recipe.optimiser.epochs,
            "title": recipe.title,
        }
        for recipe in recipes
    ]


def _formats(data_dir: Path | None) -> Rows:
    from model_zoo.adapters import formats
    from model_zoo.adapters.published import published_files

    return [
        {
            "name": adapter.name,
            "reads": adapter.reads,
            "files": adapter.files,
            "published": [row.name for row in published_files(adapter.name)],
        }
        for adapter in formats().values()
    ]


def _families(data_dir: Path | None) -> Rows:
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


def _methods(data_dir: Path | None) -> Rows:
    from model_zoo.plugins import METHODS

    return [{"name": name, "title": _first_line(method)} for name, method in METHODS.items()]


def _architectures(data_dir: Path | None) -> Rows:
    from model_zoo.plugins import ARCHITECTURES

    rows = []
    for name, builder in ARCHITECTURES.items():
        function = getattr(builder, "func", builder)
        rows.append({"name": name, "defined in": function.__module__, "title": _first_line(sys.modules[function.__module__])})
    return rows


def _figures(data_dir: Path | None) -> Rows:
    from harness.plugins import FIGURES

    return [{"name": name, "title": _first_line(sys.modules[figures.__module__])} for name, figures in FIGURES.items()]


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]


KINDS: dict[str, Callable[[Path | None], Rows]] = {
    "models": _models,
    "datasets": _datasets,
    "attacks": _attacks,
    "suites": _suites,
    "tables": _tables,
    "recipes": _recipes,
    "formats": _formats,
    "families": _families,
    "methods": _methods,
    "architectures": _architectures,
    "figures": _figures,
}


@click.command("ls")
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.option("--data-dir", type=click.Path(path_type=Path), envvar="HARNESS_DATA_DIR", help="Where data that does not ship is.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list, for scripts.")
def command(kind: str, data_dir: Path | None, as_json: bool) -> None:
    """List what is registered: models, datasets, attacks, suites, tables, figures, recipes, families, methods, architectures, formats.

    \b
    Examples:
      harness ls models
      harness ls attacks --json
      harness ls datasets --data-dir ~/data
    """
    rows = KINDS[kind](data_dir)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else []:
        numeric = all(isinstance(row[name], (int, float)) or row[name] is None for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    out.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return f"{len(value)}"
    return f"{value:,}" if isinstance(value, int) else str(value)
