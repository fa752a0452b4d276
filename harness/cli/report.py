"""`harness report`: build tables and figures from stored outcomes, without running attacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import data_dir_option, json_option, store_option
from model_zoo.errors import UnknownNameError, UserError

if TYPE_CHECKING:
    from harness.reporting.report import Report


def show(made: Report, table: str | None = None) -> None:
    """Print one table of a report, the main one by default, and the paths of its main table and figure."""
    from harness.cli.console import err, out
    from harness.reporting.renderers import terminal

    for rendered in terminal(made.tables.get(table or made.main_table, [])):
        out.print(rendered)
    for kind, suffixes in (("table", (".md", ".csv", ".tex")), ("figure", (".png", ".svg", ".pdf"))):
        path = next((path for path in made.paths if path.suffix in suffixes), None)
        if path is not None:
            err.print(f"{kind}: {path}", markup=False)


def warn(line: str) -> None:
    """Print one line about something that a report leaves out."""
    from harness.cli.console import err

    err.print(line, style="yellow", markup=False)


@click.command("report")
@store_option()
@click.option("--out", "reports", type=click.Path(path_type=Path), default=Path("reports"), show_default=True, help="Folder to write to.")
@click.option("--suite", "suites", multiple=True, help="Report only this suite; may be repeated.  [default: all suites with outcomes]")
@click.option("--table", help="Table to print (`harness ls tables`); all tables are written.  [default: the main table of each suite]")
@data_dir_option()
@click.option(
    "--format",
    "formats",
    type=click.Choice(["md", "csv", "tex", "png", "svg", "pdf"]),
    multiple=True,
    default=("md", "csv", "png"),
    show_default="md, csv and png",
    help="File format of tables and figures; may be repeated.",
)
@click.option(
    "--html", "as_page", is_flag=True, help="Write interactive pages (a leaderboard, and one page per model) to OUT/page, and nothing else."
)
@json_option("Print the summaries as JSON instead of tables.")
def command(
    store: Path,
    reports: Path,
    suites: tuple[str, ...],
    table: str | None,
    data_dir: Path | None,
    formats: tuple[str, ...],
    as_page: bool,
    as_json: bool,
) -> None:
    """Rebuild every table and figure from stored outcomes, one folder per suite, and OUT/README.md, which leads through them.

    A suite whose cells are all part of a larger suite gets a folder only if it is named. Outcomes outside every suite, for example of your
    own models and images, are reported in the folder "requests".

    With a table of the paper (--table liu2022-1), only the folder "paper" is rebuilt and the table is printed.

    \b
    Examples:
      harness report
      harness report --suite full --table ablations
      harness report --table liu2022-1
      harness report --format tex --format pdf
      harness report --suite quick --store other/results --out other/reports
      harness report --html
    """
    from harness.api.reporting import report, report_page
    from harness.plugins import TABLES
    from harness.reporting import tables
    from harness.reproduction import specification

    if table is not None and not as_page and specification.resolve(table) is not None:
        _report_paper(store, reports, table, formats, as_json)
        return
    if table is not None and table not in tables.names() and not table.endswith(".toml"):
        raise UnknownNameError("table", table, [*tables.names(), *specification.names()], "harness ls tables")
    spec = None if table is None else tables.get(table)
    if spec is not None and spec.name not in tables.names():
        TABLES.add(spec.name, spec, str(table))
    if as_page:
        paths = report_page(store, reports / "page", suites, data_dir)
        click.echo(f"page: {paths[0]}", err=True)
        return
    suite_reports = [
        section.report for section in report(store, reports, suites=suites, formats=formats, data_dir=data_dir, on_message=warn).sections
    ]
    if as_json:
        click.echo(
            json.dumps(
                [row for made in suite_reports for row in json.loads(made.frames[made.main_table].to_json(orient="records"))],
                indent=1,
            )
        )
        return
    if spec is not None and not any(spec.name in suite_report.frames for suite_report in suite_reports):
        raise UserError(f"{store} has no outcomes for table {spec.name!r}")
    for suite_report in suite_reports:
        show(suite_report, None if spec is None else spec.name)


def _report_paper(store: Path, reports: Path, table: str, formats: tuple[str, ...], as_json: bool) -> None:
    """Rebuild the folder of the paper's tables from what is stored, and print one of them."""
    from harness.cli.reproduce import show as show_table
    from harness.reproduction.measurements import stored
    from harness.reproduction.report import FOLDER, write
    from harness.runner.store import Store

    measurements = stored(Store(store))
    paths = write(measurements, reports / FOLDER, formats)
    show_table(table, measurements, as_json)
    click.echo(f"tables: {paths[0]}", err=True)
