"""`harness report`: build tables and figures from stored outcomes, without running attacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_zoo.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from harness.reporting.report import Report
    from harness.runner.plan import Plan
    from harness.runner.store import Store, Stored
    from model_zoo.errors import DamagedFileError


# Folder for the report on outcomes that no suite asks for.
REQUESTS = "requests"


def show(made: Report, table: str = "summary") -> None:
    """Print one table of a report, and the paths of its main table and figure."""
    from harness.cli.console import err, out
    from harness.reporting.renderers import terminal

    for rendered in terminal(made.tables.get(table, [])):
        out.print(rendered)
    for what, suffixes in (("table", (".md", ".csv", ".tex")), ("figure", (".png", ".svg", ".pdf"))):
        path = next((path for path in made.paths if path.suffix in suffixes), None)
        if path is not None:
            err.print(f"{what}: {path}", markup=False)


def make(
    store: Store,
    stored: Iterable[Stored | DamagedFileError],
    folder: Path,
    plan: Plan,
    formats: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
) -> Report | None:
    """Write every table and figure of a plan's outcomes to `folder`; return None if there are no outcomes.

    `stored` is the result of the store's `read_all`, so that the store is read once for several plans.
    """
    import pandas as pd

    from harness.cli.console import err
    from harness.reporting import report
    from harness.runner.results import find

    found = find(stored, plan)
    for error in found.damaged:
        err.print(f"skipped: {error}", style="yellow", markup=False)
    for line in found.invalid:
        err.print(f"invalid: {line}", style="yellow", markup=False)
    if found.outcomes.empty:
        return None
    models, diagnoses = _described(store, plan)
    found_by = _found_by(plan)
    return report.build(
        found.outcomes,
        models,
        folder,
        pd.DataFrame(plan.expected()),
        found.invalid,
        diagnoses,
        found_by,
        formats or report.DEFAULT_FORMATS,
        only,
    )


def _described(store: Store, plan: Plan) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the catalogue of a plan's models with their traits, and their diagnostics."""
    from harness.reporting.traits import with_traits
    from harness.runner.diagnoses import diagnosed
    from model_zoo.catalogue import catalogue

    found_by = _found_by(plan)
    diagnoses = diagnosed(store, found_by)
    return with_traits(catalogue(found_by), found_by), diagnoses


def _found_by(plan: Plan) -> dict[str, str]:
    return {unit.record.id: unit.model for unit in plan.units}


def _requested(
    store: Store, stored: Iterable[Stored | DamagedFileError], plans: Iterable[Plan], folder: Path, formats: Sequence[str]
) -> Report | None:
    """Write the report on outcomes that no suite asks for, such as those of user models and images; return None if there are none."""
    from harness.cli.console import err
    from harness.reporting import report
    from harness.reporting.traits import with_traits
    from harness.runner.diagnoses import diagnosed
    from harness.runner.results import cell, find
    from harness.runner.store import Stored
    from model_zoo import registry
    from model_zoo.catalogue import catalogue

    asked = {cell(unit.identity) for plan in plans for unit in plan.units}
    readable = [item for item in stored if isinstance(item, Stored)]
    others = [item for item in readable if cell(item.manifest.identity) not in asked]
    # The report includes all other models under the same attacks, data and threat models.
    where = {_met(item) for item in others}
    found = find(item for item in readable if _met(item) in where)
    if found.outcomes.empty:
        return None
    names = sorted(set(found.outcomes["model"]))
    shipped = {name: name for name in names if name in registry.model_ids()}
    # Only the name of a model without a record is known; the columns are taken from a model with one.
    known = shipped or {name: name for name in registry.model_ids()[:1]}
    models = with_traits(catalogue(known), known).set_index("id").reindex(names).rename_axis("id").reset_index()
    families = found.outcomes.drop_duplicates("model").set_index("model")["family"]
    models["family"] = models["family"].fillna(models["id"].map(families))
    try:
        return report.build(found.outcomes, models, folder, None, found.invalid, diagnosed(store, shipped), shipped, formats)
    except UserError as error:
        err.print(f"left out: outcomes that no suite asks for: {error}", style="yellow", markup=False)
        return None


def _met(item: Stored) -> tuple[str, ...]:
    labels = item.manifest.labels
    return labels.dataset, labels.norm, labels.radius, labels.attack


def _page(store: Store, suites: Iterable[str], folder: Path, data_dir: Path | None) -> list[Path]:
    """Write the web page of these suites' outcomes and return the paths; an empty list if there are no outcomes."""
    import pandas as pd

    from harness.reporting.page.boards import Results
    from harness.reporting.page.site import build
    from harness.runner.plan import plan_suite
    from harness.runner.results import find
    from harness.runner.suite import get_suite
    from model_zoo import registry

    stored = list(store.read_all())
    results, models = [], {name: name for name in registry.model_ids()}
    for name in suites:
        plan = plan_suite(get_suite(name), data_dir)
        found = find(stored, plan).outcomes
        if not found.empty:
            models_of, verdicts = _described(store, plan)
            results.append(Results(name, found, models_of, pd.DataFrame(plan.expected()), verdicts))
    return build(store, stored, results, models, folder, data_dir) if results else []


def _widest(stored: Sequence[Stored | DamagedFileError], plans: Mapping[str, Plan]) -> list[str]:
    """Return the suites that have outcomes and whose cells are not all in another one's, those with the most cells first."""
    from harness.runner.results import find

    columns = ["model", "model_sha256", "dataset", "norm", "radius", "attack"]
    cells = {name: set(find(stored, plan).outcomes[columns].itertuples(index=False, name=None)) for name, plan in plans.items()}
    ordered = sorted((name for name in cells if cells[name]), key=lambda name: (-len(cells[name]), name))
    return [name for place, name in enumerate(ordered) if not any(cells[name] <= cells[other] for other in ordered[:place])]


def _selftest(store: Path, reports: Path) -> dict[str, str]:
    """Write the kept self-test; returns its file and title for the index, or nothing."""
    from harness.cli.console import err
    from harness.selftest import report
    from model_zoo.files import place

    path = store / report.FILE
    if not path.is_file():
        return {}
    try:
        place(reports / "selftest.md", report.markdown(path.read_text(encoding="utf-8")).encode())
    except (ValueError, KeyError, TypeError) as error:
        err.print(f"skipped: {path} is not what `harness selftest` keeps ({error})", style="yellow", markup=False)
        return {}
    return {"selftest.md": "The self-test: planted faults, and whether they were caught"}


@click.command("report")
@click.option("--store", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Where outcomes are kept.")
@click.option("--out", "reports", type=click.Path(path_type=Path), default=Path("reports"), show_default=True, help="Where to write.")
@click.option("--suite", "suites", multiple=True, help="Only this suite; may be repeated.  [default: all that have outcomes]")
@click.option("--table", default="summary", show_default=True, help="The table to print (`harness ls tables`); all are written.")
@click.option("--data-dir", type=click.Path(path_type=Path), envvar="HARNESS_DATA_DIR", help="Where data that does not ship is.")
@click.option(
    "--format",
    "formats",
    type=click.Choice(["md", "csv", "tex", "png", "svg", "pdf"]),
    multiple=True,
    default=("md", "csv", "png"),
    show_default="md, csv and png",
    help="How tables and figures are written; may be repeated.",
)
@click.option("--html", "as_page", is_flag=True, help="Make the page (a leaderboard, a page a model) in OUT/page instead.")
@click.option("--json", "as_json", is_flag=True, help="Print the summaries as JSON instead of tables.")
def command(
    store: Path,
    reports: Path,
    suites: tuple[str, ...],
    table: str,
    data_dir: Path | None,
    formats: tuple[str, ...],
    as_page: bool,
    as_json: bool,
) -> None:
    """Rebuild every table and figure from stored outcomes, one folder per suite, and OUT/README.md, which leads through them.

    A suite all of whose cells are in a larger one has no folder of its own unless it is named. Outcomes that no suite asks for, of your
    own models and images for example, are in the folder "requests".

    \b
    Examples:
      harness report
      harness report --suite full --table ablations
      harness report --format tex --format pdf
      harness report --suite quick --store other/results --out other/reports
      harness report --html
    """
    from harness.plugins import TABLES
    from harness.reporting import tables
    from harness.reporting.index import Section, index
    from harness.runner.plan import plan_suite
    from harness.runner.store import Store
    from harness.runner.suite import get_suite, suite_names
    from model_zoo.files import place

    spec = tables.get(table)
    if spec.name not in tables.names():
        TABLES.add(spec.name, spec, table)
    table = spec.name
    kept = Store(store)
    what = f"of suite {', '.join(suites)} " if suites else ""
    nothing = UserError(f"no outcomes {what}in {store}: `harness run --suite quick` makes some")
    if as_page:
        written = _page(kept, suites or suite_names(), reports / "page", data_dir)
        if not written:
            raise nothing
        click.echo(f"page: {written[0]}", err=True)
        return
    stored = list(kept.read_all())
    chosen = {suite.name: suite for suite in map(get_suite, suites or suite_names())}
    plans = {name: plan_suite(suite, data_dir) for name, suite in chosen.items()}
    sections = []
    for name in plans if suites else _widest(stored, plans):
        suite = chosen[name]
        one = make(kept, stored, reports / name, plans[name], formats, suite.tables)
        if one is not None:
            sections.append(Section(f"Suite {name}", suite.title, name, one))
    if not suites:
        one = _requested(kept, stored, plans.values(), reports / REQUESTS, formats)
        if one is not None:
            sections.append(Section("Other outcomes", "what no suite asks for", REQUESTS, one))
    if not sections:
        raise nothing
    made = [section.report for section in sections]
    others = _selftest(store, reports)
    sections.sort(key=lambda section: -len(section.report.frames))
    place(reports / "README.md", index(sections, others).encode())
    if as_json:
        click.echo(json.dumps([row for one in made for row in json.loads(one.frames["summary"].to_json(orient="records"))], indent=1))
        return
    if not any(table in one.frames for one in made):
        raise UserError(f"nothing stored in {store} is in table {table!r}")
    for one in made:
        show(one, table)
