"""Comparisons from Python: one model and others, attacked on the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness import attacks
from harness.reporting import comparison
from harness.reporting.comparison import Comparison, Size, p_text, points
from harness.runner.comparing import admit, plan_comparison, plan_probes
from harness.runner.execute import Report, execute
from harness.runner.fingerprints import check_fingerprints
from harness.runner.identity import model_sha256
from harness.runner.plan import Plan
from harness.runner.results import find, without_covered
from harness.runner.store import Store
from harness.runner.suite import get_suite
from model_zoo.adapters.preprocessing import NO_PREPROCESSING, Preprocessing
from model_zoo.references import parse, parse_recorded
from model_zoo.schema import Attackable, Record
from model_zoo.threat import threats_for
from model_zoo.user_model import UserModel

OnMessage = Callable[[str], None]


@dataclass(frozen=True)
class Compared:
    """Result of a comparison.

    Attributes
    ----------
    model : Attackable
        Record of the compared model, or the description of a user's.
    comparisons : list of Comparison
        One per threat model, the one with the most attacks first.
    not_tested : tuple of str
        Probes that could not be made, one line each.
    classes : int
        Number of classes of the data.
    has_failed : bool
        Whether a unit failed.
    is_evasive : bool
        Whether a probe without the model's gradients failed on it.
    """

    model: Attackable
    comparisons: list[Comparison]
    not_tested: tuple[str, ...]
    classes: int
    has_failed: bool
    is_evasive: bool

    def unmet(self, fail_under: float | None = None, must_beat: Sequence[str] = ()) -> list[str]:
        """Return the conditions that the model does not meet under the first threat model, one line each.

        Parameters
        ----------
        fail_under : float, optional
            Least lower end of the worst case's 95 % interval, in per cent.
        must_beat : sequence of str
            Ids of models that it must be better than, with a corrected p value below 5 %.
        """
        main = self.comparisons[0]
        target, lines = main.target, []
        low = 100 * target.worst.interval[0]
        doubt = f"; {target.doubt}" if target.doubt else ""
        if fail_under is not None and (low < fail_under or target.doubt):
            lines.append(f"--fail-under {fail_under:g}: the lower end of {target.worst} % under {main.threat} is {low:.1f}{doubt}")
        for opponent in main.opponents:
            name = opponent.result.model
            if name in must_beat and (opponent.verdict != "better" or target.doubt):
                figures = (
                    f"{points(opponent.difference)} points, p = {p_text(opponent.adjusted)}" if opponent.images else "no images in common"
                )
                lines.append(f"--must-beat {name}: {opponent.verdict} ({figures}) under {main.threat}{doubt}")
        absent = set(must_beat) - {opponent.result.model for opponent in main.opponents}
        return lines + [f"--must-beat {name}: it is the same model, or was not trained on this data" for name in sorted(absent)]


def compare(
    model: str,
    *,
    against: Sequence[str] = (),
    suite: str = "quick",
    attack: str | Sequence[str] = (),
    dataset: str | None = None,
    radius: str | None = None,
    n: int | str | None = None,
    checkpoint: str | Path | None = None,
    preprocessing: Preprocessing = NO_PREPROCESSING,
    store: str | Path = "results",
    data_dir: str | Path | None = None,
    download: bool = False,
    run: Callable[[Plan, Store], Report] = execute,
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_message: OnMessage = lambda line: None,
) -> Compared:
    """Attack a model and others on the same images, and test which is better.

    Outcomes that the store has are used, the others are computed and stored. The compared model is also attacked without its gradients
    (`harness.runner.comparing.plan_probes`).

    Parameters
    ----------
    model : str
        An id, the path of a record, robustbench:NAME, FILE.py:FUNCTION, or an exported file (TorchScript, .pt2, .onnx).
    against : sequence of str
        Ids, families or "all"; the suite's models by default.
    suite : str
        The suite that defines attacks and images.
    attack : str or sequence of str
        Names of attacks in place of the suite's.
    dataset : str, optional
        A data set, or images of your own, see `harness.datasets.load`; the suite's first that fits by default.
    radius : str, optional
        An exact radius such as "8/255", or "L2 1/2", in place of the suite's, or of the protocol's for a data set that the suite does not
        have. Necessary if the protocol fixes none.
    n : int or "all", optional
        Number of images, the same first ones for all. By default the suite's, and all others that the store has of both models.
    checkpoint : path, optional
        Weights for FILE.py:FUNCTION.
    preprocessing : Preprocessing
        Preprocessing that an exported network does not contain.
    store : path
        Where outcomes are kept.
    run : callable
        Runs a plan; `harness.runner.execute.execute` by default.
    on_plan : callable
        Called with the plan before anything runs.
    on_message : callable
        Called with one line for each thing that a user should know.

    Raises
    ------
    UserError
        For unknown names, refused models or images, and data that is absent.
    """
    reference = str(parse(model, None if checkpoint is None else Path(checkpoint), preprocessing))
    data_path = None if data_dir is None else Path(data_dir)
    limit = n if isinstance(n, int) else None
    names = [attack] if isinstance(attack, str) else list(attack)
    threat = threats_for([attacks.get(name).norm for name in names] or ["Linf"], [radius])[0] if radius else None
    plan = plan_comparison(reference, against, get_suite(suite), dataset, limit, n == "all", data_path, download, threat, names)
    on_plan(plan)
    admit(plan)
    result_store = Store(Path(store))
    check_fingerprints(plan.units, result_store)
    stored = list(result_store.read_all())
    missing = without_covered(plan, find(stored, plan, allow_larger=True).outcomes)
    other_ids = {unit.record.id for unit in missing.units if unit.model != reference}
    if other_ids:
        hint = "(`harness store merge CLONE/results` copies those of the shipped models)"
        on_message(f"{result_store.root} lacks outcomes of {len(other_ids)} models to compare with, which are attacked too {hint}")
    report = run(Plan(missing.units), result_store) if missing.units else None
    first_unit = plan.units[0]
    stored = list(result_store.read_all()) if report is not None else stored
    # Without a number, all images that the store has of the compared models count.
    usable = find(stored, plan, allow_larger=True, all_images=n is None)
    target_outcomes = usable.outcomes[usable.outcomes["model"] == first_unit.record.id]
    probes = plan_probes(plan, target_outcomes["image"].nunique(), data_path) if len(target_outcomes) else Plan(())
    unprobed = without_covered(probes, find(stored, probes, allow_larger=True).outcomes)
    is_evasive = False
    if unprobed.units:
        on_message("and without its gradients:")
        is_evasive = bool(run(Plan(unprobed.units), result_store).failed)
        stored = list(result_store.read_all())
    for line in usable.invalid:
        on_message(f"invalid: {line}")
    all_outcomes = _outcomes_of_models(find(stored).outcomes, plan)
    comparisons = comparison.compare(usable.outcomes, first_unit.record.id, plan.expected(), _sizes(plan), all_outcomes, is_evasive)
    has_failed = report is not None and bool(report.failed)
    return Compared(first_unit.record, comparisons, tuple(probes.omitted), len(first_unit.block.classes), has_failed, is_evasive)


def required_ids(must_beat: Sequence[str]) -> list[str]:
    """Return the ids of the models that a condition names; raises a UserError if there is no such model."""
    return [parse_recorded(name).describe().id for name in must_beat]


def _outcomes_of_models(outcomes: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Return all outcomes of a plan's models, from any suite, under the models' names in the plan."""
    names = {model_sha256(unit.identity["model"]): unit.record.id for unit in plan.units}
    selected = outcomes[outcomes["model_sha256"].isin(list(names))]
    return selected.assign(model=selected["model_sha256"].map(names))


def _sizes(plan: Plan) -> Mapping[str, Size]:
    sizes = {}
    for unit in plan.units:
        record = unit.record
        if isinstance(record, UserModel):
            sizes[record.id] = Size(record.bytes, record.convention)
        elif isinstance(record, Record):
            convention = "given file" if record.architecture["name"] == "onnx" else "packed file"
            sizes[record.id] = Size(record.checkpoint.bytes, convention)
    return sizes
