"""Tests of the distances of minimum-norm attacks: medians, accuracy at the radius, the table and the security curve."""

import pandas as pd
import pytest

from harness.reporting import tables
from harness.reporting.figures import Material
from harness.reporting.figures.security_curve import figures
from harness.reporting.frames import summary
from harness.reporting.minimum_norm import distances, minimum_norm
from tests.harness.reporting.conftest import rows

MODELS = pd.DataFrame([{"id": "m", "family": "dense", "bytes": 1}])


def outcomes_of(attack: str, sizes: list[float | None]) -> pd.DataFrame:
    """Return outcomes in L2 at radius 1/2; None is an image without an adversarial example, and the last image is a clean error."""
    frame = pd.DataFrame(rows("m", attack, "".join("1" if size is None or size > 0.5 else "0" for size in sizes), radius="1/2"))
    frame["norm"], frame["l2"] = "L2", [size or 0.0 for size in sizes]
    frame["adversarial_prediction"] = [
        label if size is None else (label + 1) % 10 for label, size in zip(frame["label"], sizes, strict=True)
    ]
    return frame


@pytest.fixture
def outcomes() -> pd.DataFrame:
    return pd.concat(
        [
            outcomes_of("fmn-l2", [0.4, 0.8, None, 1.2, 0.6, 0.0]),
            outcomes_of("ddn", [0.7, 0.3, None, 0.9, 0.8, 0.0]),
            outcomes_of("cw-l2", [0.2, None, None, None, None, 0.0]),
            outcomes_of("autoattack-l2", [0.5, None, None, None, None, 0.0]),
        ],
        ignore_index=True,
    )


def test_distances_are_those_of_minimum_norm_attacks(outcomes: pd.DataFrame) -> None:
    found = distances(outcomes)
    assert sorted(found) == ["ddn", "fmn-l2"]
    assert found["fmn-l2"].tolist() == [0.4, 0.8, float("inf"), 1.2, 0.6, 0.0]
    assert distances(outcomes[outcomes["attack"] == "autoattack-l2"]).empty


def test_medians_and_accuracy_at_the_radius_follow_from_the_distances(outcomes: pd.DataFrame) -> None:
    row = minimum_norm(outcomes, summary(outcomes, MODELS)).iloc[0]
    # The clean error, whose distance is 0, counts for the accuracies but not for the medians.
    assert (row["distance fmn-l2"], row["distance ddn"], row["distance nearest"]) == pytest.approx((0.8, 0.8, 0.6))
    assert (row["robust"], row["clean"], row["n"]) == pytest.approx((3 / 6, 5 / 6, 6))


def test_the_table_has_a_column_per_attack(outcomes: pd.DataFrame) -> None:
    (table,) = tables.render(tables.get("minimum-norm"), minimum_norm(outcomes, summary(outcomes, MODELS)))
    assert table.headings == ["model", "ddn", "fmn-l2", "nearest", "robust", "clean", "n"]
    assert [str(cell) for cell in table.rows[0]][:4] == ["m", "0.8 [0.3, inf]", "0.8 [0.4, inf]", "0.6 [0.3, inf]"]


def test_linf_distances_are_in_steps_of_a_pixel(outcomes: pd.DataFrame) -> None:
    frame = outcomes.replace({"attack": {"fmn-l2": "fmn-linf"}}).query("attack == 'fmn-linf'").assign(norm="Linf", radius="8/255")
    frame["linf"] = frame.pop("l2") / 10
    row = minimum_norm(frame, summary(frame, MODELS)).iloc[0]
    assert row["distance fmn-linf"] == pytest.approx(0.08 * 255)
    assert row["robust"] == pytest.approx(5 / 6)


def test_a_norm_without_a_column_of_distances_has_no_rows(outcomes: pd.DataFrame) -> None:
    frame = outcomes.assign(norm="L1", radius="12")
    assert minimum_norm(frame, summary(frame, MODELS)).empty


def test_the_curve_falls_at_the_distances(outcomes: pd.DataFrame) -> None:
    ((name, figure),) = figures(Material(outcomes, summary(outcomes, MODELS)))
    assert name == "security-curve_cifar10-sample_l2-1-2"
    curve = next(line for line in figure.axes[0].lines if len(line.get_xdata()) > 2)
    assert list(curve.get_xdata()) == pytest.approx([0.0, 0.3, 0.4, 0.6, 0.9, 1.0])
    assert list(curve.get_ydata()) == pytest.approx([100 * count / 6 for count in (5, 4, 3, 2, 1, 1)])
    assert list(figures(Material(outcomes, summary(outcomes, MODELS), fewest_models=2))) == []


def test_of_many_models_the_best_of_each_family_have_curves(outcomes: pd.DataFrame) -> None:
    models = [f"m{number}" for number in range(8)]
    many = pd.concat([outcomes.assign(model=model) for model in models], ignore_index=True)
    families = pd.DataFrame([{"id": model, "family": "dense" if model < "m4" else "sparse", "bytes": 1} for model in models])
    ((_, figure),) = figures(Material(many, summary(many, families)))
    assert sum(len(line.get_xdata()) > 2 for line in figure.axes[0].lines) == 2
