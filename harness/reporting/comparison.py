"""Comparison of one model with others on the same images: which is better, by how much, at how many bytes; as data and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from harness import attacks
from harness.evaluation.counts import GROUP, robust_images
from harness.evaluation.marks import MASKING, in_words, is_gain, union
from harness.evaluation.outcomes import near_constant
from harness.reporting.pareto import pareto_front
from harness.statistics import CONFIDENCE, Proportion, holm, mcnemar, paired_bootstrap, paired_difference

SIGNIFICANCE = 1 - CONFIDENCE
# The mark of a model of which a probe breaks more images than chance explains, by probe.
PROBES = {"square": "black-box-better", "rays": "decisions-better", "transfer": "transfer-better"}


@dataclass(frozen=True)
class Size:
    """Bytes of a model and how they were counted: "packed file", "given file" or "tensors"; sizes are comparable only if both agree."""

    bytes: int
    convention: str


@dataclass(frozen=True)
class Probe:
    """An attack without the model's gradients: `broken` is how many it breaks of the `images` that withstand the compared attacks."""

    attack: str
    broken: int
    images: int


@dataclass(frozen=True)
class ComparedModel:
    """One model: how many images it gets right unattacked, and how many it withstands all attacks on.

    `near_constant` is true if it predicts one class for most images, so that its robustness means nothing. `flags` are the marks of its
    units under this threat model (`harness.evaluation.marks`). `probes` are the results of attacks that are not part of the comparison.
    `is_tested` is true if an attack without gradients ran on all these images, `is_evasive` if one of the probes failed on the model.
    """

    model: str
    size: Size
    clean: Proportion
    worst: Proportion
    near_constant: bool
    flags: tuple[str, ...] = ()
    is_tested: bool = False
    probes: tuple[Probe, ...] = ()
    is_evasive: bool = False

    @property
    def doubt(self) -> str:
        """The reason why the model's number decides nothing; "" if it can be relied on."""
        if self.near_constant:
            return "it predicts one class for most images"
        if self.is_evasive:
            return "an attack without its gradients failed on it"
        masking = [mark for mark in self.flags if mark in MASKING]
        if masking:
            return f"verdict masked: {in_words(masking)}"
        return "" if self.is_tested else "no gradient-free attack on these images"


@dataclass(frozen=True)
class Opponent:
    """A model that the compared model is measured against.

    Attributes
    ----------
    difference, low, high : float
        Robust accuracy of the compared model minus that of this one, as fractions, with the 95 % interval (Newcombe, paired).
    bootstrap_low, bootstrap_high : float
        Distribution-free 95 % percentile interval of a bootstrap over images.
    images : int
        Number of images that both models have met under all attacks; the difference, the intervals and the p values are over these.
    p, adjusted : float
        Exact p value of McNemar's test, and the same adjusted for the number of opponents (Holm).
    verdict : str
        Of the compared model: "better" or "worse" if the adjusted p value is below 5 % and the number of the better one is not in doubt
        (`ComparedModel.doubt`), "in doubt" if it is; else "no difference shown"; "no outcomes".
    """

    result: ComparedModel
    difference: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    images: int
    p: float
    adjusted: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """A model and its opponents under one threat model, best first; `front` is the Pareto front of all of them, from small to large.

    Models whose number is in doubt, and models that have met fewer images than the compared one, are excluded from the front.
    """

    dataset: str
    threat: str
    attacks: tuple[str, ...]
    target: ComparedModel
    opponents: tuple[Opponent, ...]
    front: tuple[str, ...]


def compare(
    outcomes: pd.DataFrame,
    model: str,
    planned: Sequence[Mapping[str, Any]],
    sizes: Mapping[str, Size],
    elsewhere: pd.DataFrame | None = None,
    is_evasive: bool = False,
) -> list[Comparison]:
    """Compare a model with all others of a plan; return one comparison per threat model, the one with the most attacks first.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        The outcomes that `harness.runner.results.find` returns for the plan.
    model : str
        The id of the model that is compared.
    planned : sequence of mapping
        The result of `Plan.expected`: a model's worst case is over all attacks that were planned for it.
    sizes : mapping
        Size of each planned model, by id.
    elsewhere : pandas.DataFrame, optional
        Other outcomes of the same models, under any suite: their attacks count as having run, and their flags count.
    is_evasive : bool
        Whether a probe failed on the compared model.
    """
    plan = pd.DataFrame(planned)
    groups = {key: part for key, part in plan.groupby(GROUP, sort=False) if model in set(part["model"])}
    ordered = sorted(groups.items(), key=lambda item: -item[1]["attack"].nunique())
    all_outcomes = outcomes if elsewhere is None else elsewhere
    return [
        _comparison(_group_outcomes(outcomes, key), key, model, part, sizes, _group_outcomes(all_outcomes, key), is_evasive)
        for key, part in ordered
    ]


def _group_outcomes(outcomes: pd.DataFrame, group: tuple[Any, ...]) -> pd.DataFrame:
    return outcomes if outcomes.empty else outcomes[(outcomes[GROUP] == list(group)).all(axis=1)]


def _comparison(
    outcomes: pd.DataFrame,
    group: tuple[Any, ...],
    model: str,
    plan: pd.DataFrame,
    sizes: Mapping[str, Size],
    all_outcomes: pd.DataFrame,
    is_evasive: bool,
) -> Comparison:
    robust: dict[str, pd.Series] = {}
    results_by_name: dict[str, ComparedModel] = {}
    for key, part in plan.groupby("model", sort=False):
        name = str(key)
        rows = outcomes if outcomes.empty else outcomes[outcomes["model"] == name]
        robust[name] = pd.Series(dtype=bool) if rows.empty else robust_images(rows, list(part["attack"]))
    model_robust = robust[model]
    for name, images in robust.items():
        # Only images that the compared model has met, since numbers on other images are not comparable.
        shared = images if model_robust.empty else images[images.index.isin(model_robust.index)]
        rows, all_rows = (frame if frame.empty else frame[frame["model"] == name] for frame in (outcomes, all_outcomes))
        results_by_name[name] = _compared_model(name, rows, shared, sizes[name], all_rows)
    results_by_name[model] = replace(results_by_name[model], is_evasive=is_evasive)
    opponents = [
        _opponent(results_by_name[name], model_robust, opponent_robust) for name, opponent_robust in robust.items() if name != model
    ]
    tested = [opponent for opponent in opponents if opponent.images]
    judged = [
        _judged(results_by_name[model], opponent, p) for opponent, p in zip(tested, holm([opponent.p for opponent in tested]), strict=True)
    ]
    judged.sort(key=lambda opponent: (-opponent.result.worst.value, opponent.result.size.bytes, opponent.result.model))
    model_images = results_by_name[model].worst.n
    candidates = [result for result in results_by_name.values() if result.worst.n and result.worst.n >= model_images and not result.doubt]
    front = pareto_front([result.size.bytes for result in candidates], [result.worst.value for result in candidates])
    dataset, norm, radius = map(str, group)
    return Comparison(
        dataset,
        f"{norm} {radius}",
        tuple(dict.fromkeys(plan["attack"])),
        results_by_name[model],
        (*judged, *(opponent for opponent in opponents if not opponent.images)),
        tuple(candidates[row].model for row in front),
    )


def _compared_model(model: str, rows: pd.DataFrame, robust: pd.Series, size: Size, all_outcomes: pd.DataFrame) -> ComparedModel:
    if robust.empty:
        return ComparedModel(model, size, Proportion(0, 0), Proportion(0, 0), False)
    clean = rows[rows["image"].isin(robust.index)].drop_duplicates("image")
    clean_correct = Proportion(int((clean["clean_prediction"] == clean["label"]).sum()), len(clean))
    probes = tuple(probe for name in PROBES if (probe := _probe(name, robust, all_outcomes)) is not None)
    probe_flags = [PROBES[probe.attack] for probe in probes if is_gain(probe.broken, clean_correct.successes)]
    flags = union([*all_outcomes.get("flags", ()), *probe_flags])
    # `map` does not return booleans for an empty frame.
    black_box_images = all_outcomes[all_outcomes["attack"].map(_uses_square).astype(bool)]["image"]
    is_constant = near_constant(clean["clean_prediction"].tolist())
    worst = Proportion(int(robust.sum()), len(robust))
    return ComparedModel(model, size, clean_correct, worst, is_constant, flags, bool(robust.index.isin(black_box_images).all()), probes)


def _probe(attack: str, robust: pd.Series, all_outcomes: pd.DataFrame) -> Probe | None:
    """Return how a probe did on the images on which a model withstands the compared attacks; None if it did not run on all of them."""
    rows = all_outcomes[all_outcomes["attack"] == attack].drop_duplicates("image").set_index("image")
    survivors = robust.index[robust.to_numpy(dtype=bool)]
    if rows.empty or not survivors.isin(rows.index).all():
        return None
    return Probe(attack, int((~rows.loc[survivors, "robust_to_seen"].astype(bool)).sum()), len(survivors))


def _uses_square(attack: str) -> bool:
    return attack in attacks.names() and attacks.uses_square(attacks.get(attack))


def _opponent(opponent: ComparedModel, model_robust: pd.Series, opponent_robust: pd.Series) -> Opponent:
    shared = model_robust.index.intersection(opponent_robust.index)
    model_results, opponent_results = model_robust.loc[shared].tolist(), opponent_robust.loc[shared].tolist()
    difference, low, high = paired_difference(model_results, opponent_results)
    bootstrap = paired_bootstrap(model_results, opponent_results)[1:]
    p = mcnemar(model_results, opponent_results)
    return Opponent(opponent, difference, low, high, *bootstrap, len(shared), p, p, "no outcomes")


def _judged(model: ComparedModel, opponent: Opponent, adjusted: float) -> Opponent:
    if adjusted >= SIGNIFICANCE:
        return replace(opponent, adjusted=adjusted, verdict="no difference shown")
    higher = model if opponent.difference > 0 else opponent.result
    verdict = "in doubt" if higher.doubt else "better" if higher is model else "worse"
    return replace(opponent, adjusted=adjusted, verdict=verdict)


def sentences(comparison: Comparison) -> list[str]:
    """Return the comparison in words, one sentence per item."""
    model = comparison.target
    if not model.worst.n:
        return [f"{model.model} has no images under {comparison.threat} that all of {', '.join(comparison.attacks)} have met."]
    attacks = comparison.attacks[0] if len(comparison.attacks) == 1 else f"all of {', '.join(comparison.attacks)}"
    images = f"{model.worst.successes} of {model.worst.n} images of {comparison.dataset}"
    lines = [
        f"{model.model} withstands {attacks} under {comparison.threat} on {images} ({model.worst} %).",
        f"Without an attack it classifies {model.clean.successes} of them correctly ({model.clean} %).",
    ]
    if model.near_constant:
        lines.append("It predicts one class for most images: its robustness is meaningless.")
    elif model.doubt:
        lines.append(f"Its robustness is in doubt ({model.doubt}).")
    lines += [_probe_sentence(model.probes)] if model.probes and model.worst.successes else []
    by_verdict: dict[str, list[Opponent]] = {}
    for opponent in comparison.opponents:
        by_verdict.setdefault(opponent.verdict, []).append(opponent)
    lines += [_opponent_sentence(model, opponent) for verdict in ("better", "worse") for opponent in by_verdict.get(verdict, ())]
    for opponent in by_verdict.get("in doubt", ()):
        higher = model if opponent.difference > 0 else opponent.result
        reason = (
            "which decides nothing, since its robustness is in doubt" if higher is model else f"in doubt: {higher.model}: {higher.doubt}"
        )
        lines.append(f"{_difference_text(model, opponent)} against {opponent.result.model}, {reason}.")
    for verdict, words in (("no difference shown", "No difference is shown to"), ("no outcomes", "No outcomes to compare with of")):
        if verdict in by_verdict:
            lines.append(f"{words} {', '.join(opponent.result.model for opponent in by_verdict[verdict])}.")
    lines += [
        f"(The interval of {opponent.result.model} excludes 0; p = {p_text(opponent.adjusted)}{_correction(opponent) or ', exact test'}.)"
        for opponent in by_verdict.get("no difference shown", ())
        if opponent.low > 0 or opponent.high < 0
    ]
    return [*lines, _pareto_sentence(comparison)]


def _probe_sentence(probes: Sequence[Probe]) -> str:
    """Return a sentence on what attacks without the model's gradients break that the compared attacks do not."""
    titles = {
        "square": "Square (1,000 queries)",
        "rays": "RayS (1,000 queries, which sees only decisions)",
        "transfer": "examples made on shipped models",
    }
    counts = [f"{titles[probe.attack]} {probe.broken}" for probe in probes]
    return f"Without its gradients, these attacks break of the {probes[0].images} remaining images: {', '.join(counts)}."


def _opponent_sentence(model: ComparedModel, opponent: Opponent) -> str:
    name = opponent.result.model
    doubt = f" ({opponent.result.doubt})" if opponent.result.doubt else ""
    size = times(model.size.bytes, opponent.result.size.bytes)
    return f"{opponent.verdict.capitalize()} than {name}{doubt}: {_difference_text(model, opponent)}, at {size}."


def _difference_text(model: ComparedModel, opponent: Opponent) -> str:
    difference = f"{points(opponent.difference)} points [{points(opponent.low)}, {points(opponent.high)}] on {opponent.images} images"
    return f"{difference}, p = {p_text(opponent.adjusted)}{_correction(opponent)}"


def _correction(opponent: Opponent) -> str:
    return " after Holm's correction" if opponent.adjusted != opponent.p else ""


def _pareto_sentence(comparison: Comparison) -> str:
    model = comparison.target
    if model.doubt:
        return "It is not placed on the Pareto front of accuracy against bytes: its robustness is in doubt."
    if model.model in comparison.front:
        return "It is on the Pareto front of accuracy against bytes: no compared model is as accurate at as few bytes."
    others = {opponent.result.model: opponent.result for opponent in comparison.opponents}
    dominating = [
        others[name]
        for name in comparison.front
        if others[name].size.bytes <= model.size.bytes and others[name].worst.value >= model.worst.value
    ]
    if not dominating:
        return "It is not on the Pareto front of accuracy against bytes."
    best = max(dominating, key=lambda result: result.worst.value)
    return (
        "It is below the Pareto front of accuracy against bytes: "
        f"{best.model} withstands {best.worst.successes} of {best.worst.n} at {best.size.bytes:,} bytes ({best.size.convention})."
    )


def times(bytes_of_model: int, bytes_of_opponent: int) -> str:
    """Return one size relative to another, as text: "3.2 times its bytes", "0.4 times its bytes"."""
    ratio = bytes_of_model / bytes_of_opponent
    return f"{ratio:.1f} times its bytes" if ratio >= 0.1 else f"{ratio:.3f} times its bytes"


def points(fraction: float) -> str:
    """Return a difference of fractions as percentage points: "+12.5", "−3.0"."""
    return f"{100 * fraction:+.1f}".replace("-", "−")


def p_text(p: float) -> str:
    """Return a p value as text: "0.021", "<0.001"."""
    return f"{p:.3f}" if p >= 0.0005 else "<0.001"
