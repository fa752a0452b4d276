"""Comparison of one model with others on the same images: which is better, by how much, at how many bytes; as data and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from harness import attacks
from harness.evaluation.marks import MASKING, in_words, is_gain, union
from harness.evaluation.outcomes import near_constant
from harness.reporting.frame import GROUP, robust_images
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
    """An attack without the model's gradients: `gained` is how many it breaks of the `left` images that withstand the compared attacks."""

    attack: str
    gained: int
    left: int


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
            return "it gives one class to most images"
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

    standing: ComparedModel
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
    ours: ComparedModel
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
    known = outcomes if elsewhere is None else elsewhere
    return [_compared(_of(outcomes, key), key, model, part, sizes, _of(known, key), is_evasive) for key, part in ordered]


def _of(outcomes: pd.DataFrame, group: tuple[Any, ...]) -> pd.DataFrame:
    return outcomes if outcomes.empty else outcomes[(outcomes[GROUP] == list(group)).all(axis=1)]


def _compared(
    outcomes: pd.DataFrame,
    group: tuple[Any, ...],
    model: str,
    plan: pd.DataFrame,
    sizes: Mapping[str, Size],
    known: pd.DataFrame,
    is_evasive: bool,
) -> Comparison:
    robust: dict[str, pd.Series] = {}
    standings: dict[str, ComparedModel] = {}
    for key, part in plan.groupby("model", sort=False):
        name = str(key)
        rows = outcomes if outcomes.empty else outcomes[outcomes["model"] == name]
        robust[name] = pd.Series(dtype=bool) if rows.empty else robust_images(rows, list(part["attack"]))
    ours = robust[model]
    for name, images in robust.items():
        # Only images that the compared model has met, since numbers on other images are not comparable.
        shared = images if ours.empty else images[images.index.isin(ours.index)]
        rows, more = (frame if frame.empty else frame[frame["model"] == name] for frame in (outcomes, known))
        standings[name] = _standing(name, rows, shared, sizes[name], more)
    standings[model] = replace(standings[model], is_evasive=is_evasive)
    found = [_opponent(standings[name], ours, theirs) for name, theirs in robust.items() if name != model]
    tested = [opponent for opponent in found if opponent.images]
    judged = [_judged(standings[model], opponent, p) for opponent, p in zip(tested, holm([opponent.p for opponent in tested]), strict=True)]
    judged.sort(key=lambda opponent: (-opponent.standing.worst.value, opponent.standing.size.bytes, opponent.standing.model))
    met = standings[model].worst.n
    fit = [one for one in standings.values() if one.worst.n and one.worst.n >= met and not one.doubt]
    front = pareto_front([one.size.bytes for one in fit], [one.worst.value for one in fit])
    dataset, norm, radius = map(str, group)
    return Comparison(
        dataset,
        f"{norm} {radius}",
        tuple(dict.fromkeys(plan["attack"])),
        standings[model],
        (*judged, *(opponent for opponent in found if not opponent.images)),
        tuple(fit[row].model for row in front),
    )


def _standing(model: str, rows: pd.DataFrame, robust: pd.Series, size: Size, known: pd.DataFrame) -> ComparedModel:
    if robust.empty:
        return ComparedModel(model, size, Proportion(0, 0), Proportion(0, 0), False)
    clean = rows[rows["image"].isin(robust.index)].drop_duplicates("image")
    right = Proportion(int((clean["clean_prediction"] == clean["label"]).sum()), len(clean))
    probes = tuple(probe for name in PROBES if (probe := _probe(name, robust, known)) is not None)
    by_probes = [PROBES[probe.attack] for probe in probes if is_gain(probe.gained, right.successes)]
    flags = union([*known.get("flags", ()), *by_probes])
    # `map` does not return booleans for an empty frame.
    black_box = known[known["attack"].map(_uses_square).astype(bool)]["image"]
    is_constant = near_constant(clean["clean_prediction"].tolist())
    worst = Proportion(int(robust.sum()), len(robust))
    return ComparedModel(model, size, right, worst, is_constant, flags, bool(robust.index.isin(black_box).all()), probes)


def _probe(attack: str, robust: pd.Series, known: pd.DataFrame) -> Probe | None:
    """Return how a probe did on the images on which a model withstands the compared attacks; None if it did not run on all of them."""
    rows = known[known["attack"] == attack].drop_duplicates("image").set_index("image")
    left = robust.index[robust.to_numpy(dtype=bool)]
    if rows.empty or not left.isin(rows.index).all():
        return None
    return Probe(attack, int((~rows.loc[left, "robust_to_seen"].astype(bool)).sum()), len(left))


def _uses_square(attack: str) -> bool:
    return attack in attacks.names() and attacks.uses_square(attacks.get(attack))


def _opponent(standing: ComparedModel, ours: pd.Series, theirs: pd.Series) -> Opponent:
    both = ours.index.intersection(theirs.index)
    left, right = ours.loc[both].tolist(), theirs.loc[both].tolist()
    difference, low, high = paired_difference(left, right)
    drawn = paired_bootstrap(left, right)[1:]
    p = mcnemar(left, right)
    return Opponent(standing, difference, low, high, *drawn, len(both), p, p, "no outcomes")


def _judged(ours: ComparedModel, opponent: Opponent, adjusted: float) -> Opponent:
    if adjusted >= SIGNIFICANCE:
        return replace(opponent, adjusted=adjusted, verdict="no difference shown")
    higher = ours if opponent.difference > 0 else opponent.standing
    verdict = "in doubt" if higher.doubt else "better" if higher is ours else "worse"
    return replace(opponent, adjusted=adjusted, verdict=verdict)


def sentences(found: Comparison) -> list[str]:
    """Return the comparison in words, one sentence per item."""
    ours = found.ours
    if not ours.worst.n:
        return [f"{ours.model} has no images under {found.threat} that all of {', '.join(found.attacks)} have met."]
    attacks = found.attacks[0] if len(found.attacks) == 1 else f"all of {', '.join(found.attacks)}"
    images = f"{ours.worst.successes} of {ours.worst.n} images of {found.dataset}"
    said = [
        f"{ours.model} withstands {attacks} under {found.threat} on {images} ({ours.worst} %).",
        f"Unattacked it gets {ours.clean.successes} of them right ({ours.clean} %).",
    ]
    if ours.near_constant:
        said.append("It gives one class to most images: its robustness means nothing.")
    elif ours.doubt:
        said.append(f"Its robustness is in doubt ({ours.doubt}).")
    said += [_probed(ours.probes)] if ours.probes and ours.worst.successes else []
    by_verdict: dict[str, list[Opponent]] = {}
    for opponent in found.opponents:
        by_verdict.setdefault(opponent.verdict, []).append(opponent)
    said += [_against(ours, opponent) for verdict in ("better", "worse") for opponent in by_verdict.get(verdict, ())]
    for opponent in by_verdict.get("in doubt", ()):
        higher = ours if opponent.difference > 0 else opponent.standing
        why = "which decides nothing, as said" if higher is ours else f"in doubt: {higher.model}: {higher.doubt}"
        said.append(f"{_figures(ours, opponent)} against {opponent.standing.model}, {why}.")
    for verdict, words in (("no difference shown", "No difference is shown to"), ("no outcomes", "No outcomes to compare with of")):
        if verdict in by_verdict:
            said.append(f"{words} {', '.join(opponent.standing.model for opponent in by_verdict[verdict])}.")
    said += [
        f"(The interval of {opponent.standing.model} excludes 0; p = {p_text(opponent.adjusted)}{_after(opponent) or ', exact test'}.)"
        for opponent in by_verdict.get("no difference shown", ())
        if opponent.low > 0 or opponent.high < 0
    ]
    return [*said, _pareto(found)]


def _probed(probes: Sequence[Probe]) -> str:
    """Return a sentence on what attacks without the model's gradients break that the compared attacks do not."""
    told = {
        "square": "Square (1,000 queries)",
        "rays": "RayS (1,000 queries, decisions alone)",
        "transfer": "examples made on shipped models",
    }
    said = [f"{told[probe.attack]} {probe.gained}" for probe in probes]
    return f"Without its gradients, of the {probes[0].left} images left are broken: {', '.join(said)}."


def _against(ours: ComparedModel, opponent: Opponent) -> str:
    them = opponent.standing.model
    doubt = f" ({opponent.standing.doubt})" if opponent.standing.doubt else ""
    size = times(ours.size.bytes, opponent.standing.size.bytes)
    return f"{opponent.verdict.capitalize()} than {them}{doubt}: {_figures(ours, opponent)}, at {size}."


def _figures(ours: ComparedModel, opponent: Opponent) -> str:
    spread = f"{points(opponent.difference)} points [{points(opponent.low)}, {points(opponent.high)}] on {opponent.images} images"
    return f"{spread}, p = {p_text(opponent.adjusted)}{_after(opponent)}"


def _after(opponent: Opponent) -> str:
    return " after Holm's correction" if opponent.adjusted != opponent.p else ""


def _pareto(found: Comparison) -> str:
    ours = found.ours
    if ours.doubt:
        return "It is not placed on the Pareto front of accuracy against bytes: its robustness is in doubt."
    if ours.model in found.front:
        return "It stands on the Pareto front of accuracy against bytes: nobody here is as accurate at as few bytes."
    others = {opponent.standing.model: opponent.standing for opponent in found.opponents}
    above = [
        others[name] for name in found.front if others[name].size.bytes <= ours.size.bytes and others[name].worst.value >= ours.worst.value
    ]
    if not above:
        return "It is no part of the Pareto front of accuracy against bytes."
    best = max(above, key=lambda one: one.worst.value)
    return (
        "It stands below the Pareto front of accuracy against bytes: "
        f"{best.model} withstands {best.worst.successes} of {best.worst.n} at {best.size.bytes:,} bytes ({best.size.convention})."
    )


def times(ours: int, theirs: int) -> str:
    """Return one size relative to another, for people: "3.2 times its bytes", "0.4 times its bytes"."""
    ratio = ours / theirs
    return f"{ratio:.1f} times its bytes" if ratio >= 0.1 else f"{ratio:.3f} times its bytes"


def points(fraction: float) -> str:
    """Return a difference of fractions as percentage points: "+12.5", "−3.0"."""
    return f"{100 * fraction:+.1f}".replace("-", "−")


def p_text(p: float) -> str:
    """Return a p value as text: "0.021", "<0.001"."""
    return f"{p:.3f}" if p >= 0.0005 else "<0.001"
