"""`harness compare`: attack a model and others on the same images, and test which is better."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import data_dir_option, download_option, image_options, json_option, store_option
from harness.cli.planned import count, print_notes, warn_of_guessing
from harness.cli.preprocessing import preprocessing_options

if TYPE_CHECKING:
    from rich.table import Table

    from harness.reporting.comparison import Comparison
    from harness.runner.plan import Plan
    from model_zoo.adapters.preprocessing import Preprocessing


@click.command("compare")
@click.argument("model")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights for FILE.py:FUNCTION: safetensors, or a state dict.")
@preprocessing_options
@click.option(
    "--against",
    multiple=True,
    metavar="ID|FAMILY|all",
    help="Models to compare with: ids, families or all; may be repeated.  [default: those of --must-beat, else the suite's]",
)
@click.option("--suite", default="quick", show_default=True, help="Suite that defines attacks and images (`harness ls suites`).")
@click.option("--attack", "attack_names", multiple=True, help="Attack in place of the suite's; may be repeated.")
@image_options("A data set, or images of your own (docs/data.md).  [default: the suite's first that fits]")
@click.option("--radius", help="An exact radius such as 8/255, or 'L2 1/2', in place of the suite's; your own images need one.")
@click.option(
    "--n",
    "n",
    callback=count,
    metavar="N|all",
    help="Number of images, the same ones for all models.  [default: the suite's, and all others that the store has for both models]",
)
@data_dir_option()
@download_option()
@store_option()
@click.option("--workers", type=click.IntRange(min=1), help="Number of units that run in parallel.  [default: cores]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Device that computes the units.")
@click.option(
    "--fail-under",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Exit with 1 unless the model is at least this robust; see above.",
)
@click.option(
    "--must-beat",
    multiple=True,
    metavar="ID",
    help="Exit with 1 unless the model is better than this one; may be repeated; see above.",
)
@json_option("Print one JSON object, for scripts.")
def command(
    model: str,
    checkpoint: Path | None,
    preprocessing: Preprocessing,
    against: tuple[str, ...],
    suite: str,
    attack_names: tuple[str, ...],
    dataset: str | None,
    radius: str | None,
    n: int | str | None,
    data_dir: Path | None,
    download: bool,
    store: Path,
    workers: int | None,
    device: str,
    fail_under: float | None,
    must_beat: tuple[str, ...],
    as_json: bool,
) -> None:
    """Attack MODEL and others on the same images, and test which is more robust, by how much, and at how many bytes.

    MODEL is an id, the path of a record, robustbench:NAME, or a model of your own: FILE.py:FUNCTION (called without arguments, it returns
    a torch module that takes images in [0, 1] to logits), or a file with TorchScript, torch.export (.pt2) or ONNX. A Python function,
    TorchScript and torch.export are code that runs with your rights; ONNX and --checkpoint are read as data.

    Stored outcomes of these images are used, whoever computed them: `harness store merge CLONE/results` copies those of the shipped models
    from a clone of the repository.

    MODEL is also attacked without its gradients: Square with 1,000 queries (unless the suite has an attack with Square), RayS, and examples
    made on three shipped models of the same data. If these break more images than the suite does, the model is in doubt. They are not part
    of the worst case, which uses the same attacks for all models.

    The two conditions apply to the suite's main threat model, the one with the most attacks. --fail-under is met if the LOWER end of the
    worst case's 95 % interval is at least PERCENT. --must-beat is met if the model is better and the p value of McNemar's test, corrected
    for the number of models, is below 5 %. A model meets neither condition, is not "better" and not on the Pareto front if it predicts one
    class for most images, if no attack without gradients ran on these images, or if its gradients are zero, its logits saturate, or an
    attack without gradients breaks images that gradient attacks do not. Few images rarely show a difference: raise --n.

    \b
    Examples:
      harness compare my_model.py:make_model
      harness compare my_model.py:make_model --checkpoint weights.safetensors --against all --n 100
      harness compare net.onnx --dataset folder:pictures/val --resize 32 --radius 8/255 --against cifar10-rn8s29-dense
      harness compare robustbench:Addepalli2022Efficient_RN18 --dataset robustbench-cifar10 --data-dir ~/data
      harness compare net.onnx --against dense-binary --fail-under 20 --must-beat cifar10-rn8s29-dense
    """
    from harness.api.comparing import compare, required_ids
    from harness.cli.console import err, out
    from harness.cli.run import execute_plan
    from harness.reporting.comparison import sentences

    required = required_ids(must_beat)

    def print_message(line: str) -> None:
        err.print(line, style="yellow" if line.startswith("invalid") else "dim", markup=False)

    def on_plan(plan: Plan) -> None:
        print_notes(plan)
        for line in plan.omitted:
            print_message(f"left out: {line}")

    compared = compare(
        model,
        against=(*against, *must_beat),
        suite=suite,
        attack=attack_names,
        dataset=dataset,
        radius=radius,
        n=n,
        checkpoint=checkpoint,
        preprocessing=preprocessing,
        store=store,
        data_dir=data_dir,
        download=download,
        run=lambda plan, _: execute_plan(plan, store, workers or os.cpu_count() or 1, {"device": device}),
        on_plan=on_plan,
        on_message=print_message,
    )
    result = compared.comparisons[0].target
    unmet = compared.unmet(fail_under, required)
    if as_json:
        fields = {
            "model": compared.model.id,
            "comparisons": [_to_dict(comparison) for comparison in compared.comparisons],
            "not_tested": list(compared.not_tested),
            "unmet": unmet,
        }
        click.echo(json.dumps(fields, indent=1))
    else:
        for comparison in compared.comparisons:
            out.print(_table(comparison))
            for line in (*sentences(comparison), *(f"{line}." for line in compared.not_tested)):
                out.print(line, markup=False)
            out.print()
    if compared.model.data is None:
        print_message("To check whether its robustness is real, run `harness add`, then `harness diagnose`.")
        if result.clean.n:
            warn_of_guessing(compared.model.id, result.clean.interval[0], compared.classes)
    for line in unmet:
        err.print(f"not met: {line}", style="red", markup=False)
    if unmet or compared.is_evasive or compared.has_failed or not result.worst.n:
        raise SystemExit(1)


def _to_dict(comparison: Comparison) -> dict[str, Any]:
    from harness.reporting.comparison import sentences
    from harness.reporting.frames import headline

    def with_accuracies(fields: dict[str, Any]) -> dict[str, Any]:
        for name in ("clean", "worst"):
            successes, n = fields[name]["successes"], fields[name]["n"]
            fields[name] = {"right": successes, "images": n, "accuracy": successes / n if n else None}
        return fields

    fields = {**asdict(comparison), "headline": headline(comparison.threat.split()[0], comparison.attacks)}
    fields["target"] = {**with_accuracies(fields["target"]), "doubt": comparison.target.doubt}
    for opponent_fields, opponent in zip(fields["opponents"], comparison.opponents, strict=True):
        opponent_fields["result"] = {**with_accuracies(opponent_fields["result"]), "doubt": opponent.result.doubt}
        if not opponent_fields["images"]:
            opponent_fields.update(dict.fromkeys(("difference", "low", "high", "bootstrap_low", "bootstrap_high", "p", "adjusted")))
    low, high = comparison.target.worst.interval
    fields["target"]["worst"] |= {"low": low, "high": high}
    return {**fields, "on_front": comparison.target.model in comparison.front, "words": sentences(comparison)}


def _table(comparison: Comparison) -> Table:
    from rich.table import Table

    from harness.reporting.comparison import p_text, points
    from harness.reporting.frames import full_headline, headline

    attack_title = full_headline(headline(comparison.threat.split()[0], comparison.attacks), comparison.attacks)
    title = f"{comparison.dataset}, {comparison.threat}: {attack_title}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", title_style="bold")
    table.add_column("model", overflow="fold")
    for heading in ("bytes", "of", "n", "clean, %", "robust, %", "difference", "p", "p, Holm"):
        table.add_column(heading, justify="left" if heading == "of" else "right", no_wrap=True)
    table.add_column("front")
    if any(result.flags for result in (comparison.target, *(opponent.result for opponent in comparison.opponents))):
        table.add_column("flags", overflow="fold")
    for result, opponent in [(comparison.target, None), *((opponent.result, opponent) for opponent in comparison.opponents)]:
        cells = [
            result.model,
            f"{result.size.bytes:,}",
            result.size.convention,
            str(result.worst.n),
            f"{100 * result.clean.value:.1f}" if result.clean.n else "–",
        ]
        cells.append(str(result.worst) or "–")
        if opponent is not None and opponent.images:
            cells.append(f"{points(opponent.difference)} [{points(opponent.low)}, {points(opponent.high)}]")
            cells += [p_text(opponent.p), p_text(opponent.adjusted)]
        else:
            cells += ["", "", ""]
        cells.append("yes" if result.model in comparison.front else "")
        cells += [", ".join(result.flags)] if len(table.columns) > len(cells) else []
        table.add_row(*cells, style="bold" if opponent is None else None)
    table.caption = (
        f"n = {comparison.target.worst.n}. difference: {comparison.target.model} less the model, in points, with its 95 % interval; "
        "p: McNemar's exact test on the same images, and corrected for the number of models (Holm)."
    )
    table.caption_justify = "left"
    return table
