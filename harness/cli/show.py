"""`harness show`: show one model's results, record and footprint."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from harness.cli.console import err, out
from harness.cli.options import json_option, store_option

if TYPE_CHECKING:
    import pandas as pd

    from model_zoo.schema import Record


@click.command("show")
@click.argument("model")
@click.option("--record", "with_record", is_flag=True, help="Print every field of the record, with hashes.")
@store_option()
@json_option("Print one JSON object, for scripts.")
def command(model: str, with_record: bool, store: Path, as_json: bool) -> None:
    """Show one model: how robust it is and whether that is real, how it was made, and what it costs.

    The worst case is pointwise over all attacks of a threat model that the store has, on the images that all of them have met.

    \b
    Examples:
      harness show cifar10-rn8w32-pruned-binary-k20-p01
      harness show cifar10-rn8w32-pruned-binary-k20-p01 --record
      harness show my-model.toml --json
    """
    from harness.runner.identity import model_sha256
    from harness.runner.plan import model_identity
    from harness.runner.results import read, select
    from model_zoo import registry
    from model_zoo.footprint import LINES, measure
    from model_zoo.references import parse_recorded

    reference = parse_recorded(model)
    record = reference.describe()
    reason = registry.absence(model)
    footprint = None
    if reason is None:
        footprint = measure(reference.load(), reference.checkpoint_path, record.input_shape, record.signs_drawn)
    same_id = select(read(store), model=record.id)
    outcomes = same_id[same_id["model_sha256"] == model_sha256(model_identity(record))]
    results = _results(outcomes, record, model, store)
    if len(outcomes) < len(same_id):
        text = f"{store} also has outcomes of {same_id['model_sha256'].nunique() - bool(results)} other model(s) called {record.id}"
        err.print(f"{text}, which are not shown", style="yellow")
    if as_json:
        fields = {
            "record": record.model_dump(exclude_none=True),
            "sparsity": record.sparsity,
            "footprint": None if footprint is None else dataclasses.asdict(footprint),
            "results": [_result_fields(result) for result in results],
        }
        click.echo(json.dumps(fields, indent=1))
        return
    out.print(Text(record.id, "bold"), record.title, sep="\n")
    out.print()
    if results:
        out.print(_worst_cases(results))
        out.print()
        out.print(_attacks(results[0]))
    else:
        out.print(f"no outcomes in {store}: harness run --model {record.id}", style="dim")
    out.print()
    if with_record:
        facts = record.model_dump(exclude_none=True, exclude={"id", "title"})
        _print_table("record", _flatten({**facts, "sparsity": record.sparsity}))
    else:
        _print_table("how it was made", _made(record))
    out.print()
    if footprint is None:
        out.print(reason, style="dim")
    else:
        amounts = dataclasses.asdict(footprint)
        _print_table("what it costs", {title: f"{amounts[name]:,}" for name, title in LINES.items() if amounts[name] is not None})


def _results(outcomes: pd.DataFrame, record: Record, model: str, store: Path) -> list[pd.Series]:
    """Return one row of a summary per threat model; those of the threat model that the model was trained for come first."""
    import pandas as pd

    from harness.reporting.frames import summary
    from harness.runner.diagnoses import diagnosed
    from harness.runner.store import Store

    if outcomes.empty:
        return []
    frame = summary(outcomes, pd.DataFrame({"id": [record.id]}), verdicts=diagnosed(Store(store), {record.id: model}))
    rows = [row for _, row in frame.iterrows()]
    trained_for = (record.threat.norm, record.threat.radius)
    return sorted(rows, key=lambda row: (row["norm"], row["radius"]) != trained_for)


def _result_fields(result: pd.Series) -> dict[str, Any]:
    """Return a row of a summary as JSON: accuracies are fractions."""
    accuracies = {
        name: {"accuracy": cell.value, "low": cell.interval[0], "high": cell.interval[1], "n": cell.n}
        for name, cell in result["cells"].items()
        if cell.kind == "accuracy" and cell.value is not None and cell.interval is not None
    }
    verdict = result["verdict"] if isinstance(result["verdict"], str) else "undiagnosed"
    return {"dataset": result["dataset"], "threat": _threat(result), "verdict": verdict, "flags": result["flags"], "accuracies": accuracies}


def _threat(result: pd.Series) -> str:
    return f"{result['norm']} {result['radius']}"


def _worst_cases(results: Sequence[pd.Series]) -> Table:
    """Return the table of worst cases, one row per threat model, with verdicts."""
    from harness.evaluation.counts import CLEAN, WORST
    from harness.reporting.cells import VERDICTS

    datasets = list(dict.fromkeys(str(result["dataset"]) for result in results))
    table = _table(f"robust accuracy in %, 95 % interval{'' if len(datasets) > 1 else f', {datasets[0]}'}", show_header=True)
    if len(datasets) > 1:
        table.add_column("images")
    for heading in ("threat model", "clean", "robust", "", "", "n", "verdict"):
        table.add_column(heading, justify="right" if heading in ("clean", "robust", "n") else "left", no_wrap=True)
    for result in results:
        clean, worst = (result["cells"][name] for name in (CLEAN, WORST))
        verdict = f"{result['verdict']} (n = {result['verdict_images']:,.0f})" if isinstance(result["verdict"], str) else "not diagnosed"
        robust = worst.number + worst.mark.replace(VERDICTS["undiagnosed"], "")
        row = (_threat(result), clean.number, robust, worst.brackets, result["headline"], f"{worst.n or 0:,}", verdict)
        table.add_row(*([result["dataset"]] if len(datasets) > 1 else []), *row)
    return table


def _attacks(result: pd.Series) -> Table:
    """Return the table of single attacks under one threat model."""
    from harness.evaluation.counts import CLEAN, WORST

    table = _table(f"by attack, {result['dataset']}, {_threat(result)}")
    table.add_column(no_wrap=True)
    for _ in range(2):
        table.add_column(justify="right", no_wrap=True)
    for name, cell in result["cells"].items():
        if cell.kind == "accuracy" and cell.value is not None and name not in (CLEAN, WORST):
            table.add_row(name, cell.number, cell.brackets)
    table.add_row(result["headline"], result["cells"][WORST].number, result["cells"][WORST].brackets)
    return table


def _made(record: Record) -> dict[str, str]:
    """Return what distinguishes a model from others, by label."""
    training = record.training
    accuracies = None
    if training is not None and training.hold_out_clean_accuracy is not None and training.hold_out_pgd_accuracy is not None:
        accuracies = f"{100 * training.hold_out_clean_accuracy:.1f} % clean, {100 * training.hold_out_pgd_accuracy:.1f} % under PGD-10"
    rows = {
        "family, method": f"{record.family}, {record.method}",
        "architecture": str(record.architecture.get("name", "")) if record.architecture else None,
        "weights kept": None if record.keep_ratio is None else f"{100 * record.keep_ratio:g} %",
        "allocation power p": None if record.allocation_power is None else f"{record.allocation_power:g}",
        "bits of weights, activations": f"{record.weight_bits}, {record.activation_bits}",
        "trained on": None if record.data is None else record.data.train + (" and other images" if record.data.extra else ""),
        "trained for": f"{record.threat.norm} {record.threat.radius}" if record.threat else None,
        "epochs": None if training is None or training.epochs is None else str(training.epochs),
        "held-out images": accuracies,
        "chosen by": record.selected_on,
        "recipe": record.recipe,
    }
    return {name: value for name, value in rows.items() if value}


def _table(title: str, show_header: bool = False) -> Table:
    # A title that does not wrap: rich would not let it be wider than the table.
    header = Text(title, "bold", no_wrap=True, overflow="ignore")
    return Table(title=header, title_justify="left", box=None, pad_edge=False, show_header=show_header, header_style="dim")


def _print_table(title: str, rows: dict[str, str]) -> None:
    table = _table(title)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    out.print(table)


def _flatten(fields: dict[str, object], prefix: str = "") -> dict[str, str]:
    rows: dict[str, str] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            rows.update(_flatten(value, f"{prefix}{name}."))
        elif value is not None:
            rows[prefix + name] = f"{value:g}" if isinstance(value, float) else str(value)
    return rows
