"""Options that select what to run, shared by `run`, `plan` and `status`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import data_dir_option, download_option, image_options, store_option
from model_zoo.errors import MissingDataError, UsageError

if TYPE_CHECKING:
    from harness.runner.plan import Plan


# The values of harness.engines.NAMES, which is too slow to import for a help text; a test checks that they agree.
ENGINES = ("auto", "dense", "folded", "sparse", "bf16")


def count(context: click.Context, parameter: click.Parameter, value: str | None) -> int | str | None:
    """Parse a number of images, or "all"; raise a `click.BadParameter` for anything else."""
    if value is None or value == "all":
        return value
    if not value.isdigit() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a number of images nor 'all'")
    return int(value)


def print_notes(plan: Plan) -> None:
    """Print a plan's notes on how images were read."""
    for note in plan.notes:
        print_note(note)


def print_note(note: str) -> None:
    """Print a note on how images were read."""
    from harness.cli.console import err

    err.print(note, style="yellow", markup=False)


def warn_of_guessing(model: str, low: float, classes: int) -> None:
    """Print a warning if a model may be no better than guessing; `low` is the lower end of the interval of its clean accuracy."""
    from harness.cli.console import err

    if low <= 1 / classes:
        warning = "it may be no better than guessing: is its normalisation inside, and are its classes in the order of the data?"
        err.print(f"{model}: {warning}", style="yellow", markup=False)


_OPTIONS = (
    click.option("--suite", help="Named plan: smoke, quick, main, epsilon, full, full-1000 or paper (see `harness ls suites`)."),
    click.option("--model", "models", multiple=True, help="Model id, path of a record, or robustbench:NAME; may be repeated."),
    click.option("--attack", "attack_names", multiple=True, help="Attack (see `harness ls attacks`); may be repeated.  [default: pgd]"),
    image_options("Images to attack: a data set, folder:PATH, PATH.npz or PATH.mat (docs/data.md).  [default: cifar10-sample]"),
    click.option("--n", "n", callback=count, metavar="N|all", help="Number of images, taken from the start of the data set, or 'all'."),
    click.option("--radius", "radii", multiple=True, help="Radius such as 8/255, or 'L2 1/2'; may be repeated.  [default: the protocol's]"),
    click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default="auto",
        show_default=True,
        help="Implementation of the model that attacks differentiate.",
    ),
    click.option("--seed", type=click.IntRange(min=0), help="Base seed of the attacks.  [default: 0]"),
    data_dir_option(),
    download_option(),
    store_option(),
)
_PLAN_OPTIONS = ("suite", "models", "attack_names", "dataset", "n", "radii", "engine", "seed", "data_dir", "download")


def planned(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a plan to a command, which gets `make_plan` (a function that returns the plan), `suite` and `store`."""

    @wraps(command)
    def wrapped(**values: Any) -> None:
        plan_options = {name: values.pop(name) for name in _PLAN_OPTIONS}
        command(make_plan=lambda: make_plan(**plan_options), suite=plan_options["suite"], **values)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def make_plan(
    suite: str | None,
    models: tuple[str, ...],
    attack_names: tuple[str, ...],
    dataset: str | None,
    n: int | str | None,
    radii: tuple[str, ...],
    engine: str,
    seed: int | None,
    data_dir: Path | None,
    download: bool,
) -> Plan:
    """Return the plan of a suite or a request, and print what is left out of it.

    Raises
    ------
    UsageError
        If neither or both are given, options contradict the suite, or a model has no record.
    MissingDataError
        If nothing of the suite can run.
    """
    from harness.cli.console import err
    from harness.runner.plan import plan_request, plan_suite

    if (suite is None) == (not models):
        raise UsageError("choose what to run: --suite NAME or --model ID (`harness ls suites`, `harness ls models`)")
    from model_zoo.references import ExportedFile, FactoryFile, parse

    references = list(map(parse, models))
    for model, reference in zip(models, references, strict=True):
        if isinstance(reference, FactoryFile | ExportedFile):
            raise UsageError(f"{model} has no record: `harness compare` attacks it as it is, `harness add` makes a record of it")
    if suite is None:
        from harness import attacks
        from model_zoo.threat import threats_for

        names = attack_names or ("pgd",)
        threats = threats_for((attacks.get(name).norm for name in names), radii)
        count = n if isinstance(n, int) else None
        images = dataset or "cifar10-sample"
        plan = plan_request(list(map(str, references)), names, images, count, threats, seed or 0, data_dir, download, engine)
        print_notes(plan)
        return plan
    if attack_names or dataset or radii or seed is not None:
        raise UsageError("a suite fixes its attacks, images, radii and seed: use no option but --n with --suite, or use --model")
    from harness.runner.suite import get_suite

    plan = plan_suite(get_suite(suite), data_dir, n if isinstance(n, int) else None, n == "all", download, engine)
    for line in plan.omitted:
        err.print(f"left out: {line}", style="dim", markup=False)
    if not plan.units:
        raise MissingDataError(f"suite {suite!r} cannot run on this machine: {plan.omitted[0] if plan.omitted else 'it has no models'}")
    return plan


def duration(seconds: float) -> str:
    """Return a duration as text for readers, such as "45 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
