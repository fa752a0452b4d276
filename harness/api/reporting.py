"""Reports from Python: tables, figures and the page of what a store contains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from harness.reporting import report as reports
from harness.reporting.index import Section, index
from harness.reporting.report import DEFAULT_FORMATS, Report
from harness.reporting.traits import with_traits
from harness.reproduction import report as paper
from harness.reproduction.measurements import stored as stored_measurements
from harness.runner.diagnoses import diagnosed
from harness.runner.plan import Plan, plan_suite
from harness.runner.results import UsableOutcomes, cell, find
from harness.runner.store import Store, Stored
from harness.runner.suite import get_suite, suite_names
from harness.selftest import report as selftest
from model_zoo import registry
from model_zoo.catalogue import catalogue
from model_zoo.errors import DamagedFileError, UserError
from model_zoo.files import file_name, place
from model_zoo.threat import CORRUPTED

# Folder of the report on outcomes that are in no suite.
REQUESTS = "requests"

Items = Sequence[Stored | DamagedFileError]
# Receives one line about something that was left out.
OnMessage = Callable[[str], None]


@dataclass
class Reports:
    """Reports that were written, by the name of their folder, and the index that leads through them."""

    sections: list[Section] = field(default_factory=list)
    index: Path | None = None


def report(
    store: str | Path = "results",
    out: str | Path = "reports",
    *,
    suites: Sequence[str] = (),
    formats: Sequence[str] = DEFAULT_FORMATS,
    data_dir: str | Path | None = None,
    on_message: OnMessage = lambda line: None,
) -> Reports:
    """Write every table and figure of stored outcomes, one folder per suite, and an index; no attack is started.

    Parameters
    ----------
    store : path
        Where outcomes are kept.
    out : path
        Folder to write to.
    suites : sequence of str
        Names, or paths of TOML files. By default all that have outcomes, except those whose cells are all in a larger one, the outcomes
        that no suite asks for, and the tables of the paper.
    formats : sequence of str
        Of "md", "csv", "tex", "png", "svg" and "pdf".
    data_dir : path, optional
        Where data that does not ship is; see `harness.datasets.data_folder`.
    on_message : callable, optional
        Called with one line for each file or outcome that is left out.

    Raises
    ------
    UserError
        If the store has no outcomes of these suites.
    """
    result_store, folder = Store(Path(store)), Path(out)
    stored = list(result_store.read_all())
    suites_by_name = {suite.name: suite for suite in map(get_suite, suites or suite_names())}
    plans = {name: plan_suite(suite, None if data_dir is None else Path(data_dir)) for name, suite in suites_by_name.items()}
    usable = {name: find(stored, plan) for name, plan in plans.items()}
    sections = []
    for name in plans if suites else _choose_suites(usable):
        suite = suites_by_name[name]
        suite_report = report_plan(result_store, usable[name], folder / file_name(name), plans[name], formats, suite.tables, on_message)
        if suite_report is not None:
            sections.append(Section(f"Suite {name}", suite.title, name, suite_report))
    if not suites:
        suite_report = _report_requests(result_store, stored, plans.values(), folder / REQUESTS, formats, on_message)
        if suite_report is not None:
            sections.append(Section("Other outcomes", "outcomes that are in no suite", REQUESTS, suite_report))
    if not sections:
        raise nothing_stored(result_store, suites)
    sections.sort(key=lambda section: -len(section.report.frames))
    others = _report_paper(result_store, folder, formats)
    path = folder / "README.md"
    place(path, index(sections, others | _report_selftest(result_store, folder, on_message)).encode())
    return Reports(sections, path)


def report_plan(
    store: Store,
    usable: UsableOutcomes,
    folder: Path,
    plan: Plan,
    formats: Sequence[str] = DEFAULT_FORMATS,
    only: Sequence[str] | None = None,
    on_message: OnMessage = lambda line: None,
) -> Report | None:
    """Write every table and figure of a plan's outcomes to `folder`; return None if there are no outcomes.

    `usable` is what `harness.runner.results.find` returns for the plan; `only` names the tables to write.
    """
    for line in (*(f"skipped: {error}" for error in usable.damaged), *(f"invalid: {line}" for line in usable.invalid)):
        on_message(line)
    if usable.outcomes.empty:
        return None
    models, diagnoses = describe_models(store, plan)
    expected = pd.DataFrame(plan.expected())
    return reports.build(usable.outcomes, models, folder, expected, usable.invalid, diagnoses, references_of(plan), formats, only)


def report_page(store: str | Path, out: str | Path, suites: Sequence[str] = (), data_dir: str | Path | None = None) -> list[Path]:
    """Write the web page of the outcomes of suites, all by default; return the paths, the main page first.

    Raises
    ------
    UserError
        If the store has no outcomes of these suites, or the extra `page` is not installed.
    """
    from harness.reporting.page.boards import Results
    from harness.reporting.page.site import PaperTable, build
    from harness.reproduction.made import make
    from harness.reproduction.specification import get, names

    result_store, data_path = Store(Path(store)), None if data_dir is None else Path(data_dir)
    stored = list(result_store.read_all())
    results = []
    for suite in map(get_suite, suites or suite_names()):
        plan = plan_suite(suite, data_path)
        outcomes = find(stored, plan).outcomes
        # Leaderboards are about attacks.
        outcomes = outcomes[outcomes["norm"] != CORRUPTED]
        if not outcomes.empty:
            models, verdicts = describe_models(result_store, plan)
            results.append(Results(suite.name, outcomes, models, pd.DataFrame(plan.expected()), verdicts))
    if not results:
        raise nothing_stored(result_store, suites)
    measurements = stored_measurements(result_store, data_path)
    tables = [PaperTable(name, get(name).number, get(name).title, make(get(name), measurements).parts) for name in names()]
    return build(result_store, stored, results, {name: name for name in registry.model_ids()}, Path(out), data_path, tables)


def describe_models(store: Store, plan: Plan) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the catalogue of a plan's models with their traits, and their diagnoses."""
    references = references_of(plan)
    return with_traits(catalogue(references), references), diagnosed(store, references)


def references_of(plan: Plan) -> dict[str, str]:
    """Return the references of a plan's models, by their ids."""
    return {unit.record.id: unit.model for unit in plan.units}


def nothing_stored(store: Store, suites: Sequence[str]) -> UserError:
    """Return the error for a store without outcomes of these suites."""
    scope = f"of suite {', '.join(suites)} " if suites else ""
    return UserError(f"no outcomes {scope}in {store.root}: `harness run --suite quick` makes some")


def _choose_suites(usable: Mapping[str, UsableOutcomes]) -> list[str]:
    """Return the suites that have outcomes and whose cells are not all in another one's, those with the most cells first."""
    columns = ["model", "model_sha256", "dataset", "norm", "radius", "attack"]
    cells = {name: set(selected.outcomes[columns].itertuples(index=False, name=None)) for name, selected in usable.items()}
    ordered = sorted((name for name in cells if cells[name]), key=lambda name: (-len(cells[name]), name))
    return [name for position, name in enumerate(ordered) if not any(cells[name] <= cells[larger] for larger in ordered[:position])]


def _report_requests(
    store: Store, stored: Items, plans: Iterable[Plan], folder: Path, formats: Sequence[str], on_message: OnMessage
) -> Report | None:
    """Write the report on outcomes that are in no suite, such as those of user models and images; None if there are none."""
    planned = {cell(unit.identity) for plan in plans for unit in plan.units}
    readable = [item for item in stored if isinstance(item, Stored)]
    # The report includes all other models under the same attacks, data and threat models.
    cells = {_cell_labels(item) for item in readable if cell(item.manifest.identity) not in planned}
    usable = find(item for item in readable if _cell_labels(item) in cells)
    if usable.outcomes.empty:
        return None
    names = sorted(set(usable.outcomes["model"]))
    registered = {name: name for name in names if name in registry.model_ids()}
    # Only the name of a model without a record is known; the columns are taken from a model with one.
    references = registered or {name: name for name in registry.model_ids()[:1]}
    models = with_traits(catalogue(references), references).set_index("id").reindex(names).rename_axis("id").reset_index()
    families = usable.outcomes.drop_duplicates("model").set_index("model")["family"]
    models["family"] = models["family"].fillna(models["id"].map(families))
    try:
        diagnoses = diagnosed(store, registered)
        return reports.build(usable.outcomes, models, folder, None, usable.invalid, diagnoses, registered, formats)
    except UserError as error:
        on_message(f"left out outcomes that are in no suite: {error}")
        return None


def _cell_labels(item: Stored) -> tuple[str, ...]:
    labels = item.manifest.labels
    return labels.dataset, labels.norm, labels.radius, labels.attack


def _report_paper(store: Store, folder: Path, formats: Sequence[str]) -> dict[str, str]:
    """Write the tables of the paper; return the file and title of their index."""
    from harness.reproduction.cells import CellStore

    cells = CellStore.open(store.root, "small")
    paper.write(stored_measurements(store), folder / paper.FOLDER, formats, cells)
    return {f"{paper.FOLDER}/README.md": "The paper's tables and figures: published and measured numbers, and which of its claims survive"}


def _report_selftest(store: Store, folder: Path, on_message: OnMessage) -> dict[str, str]:
    """Write the stored self-test; return its file and title for the index, or nothing."""
    path = store.root / selftest.FILE
    if not path.is_file():
        return {}
    try:
        place(folder / "selftest.md", selftest.markdown(path.read_text(encoding="utf-8")).encode())
    except (ValueError, KeyError, TypeError) as error:
        on_message(f"skipped: {path} is not a result of `harness selftest` ({error})")
        return {}
    return {"selftest.md": "The self-test: planted faults, and whether they were caught"}
