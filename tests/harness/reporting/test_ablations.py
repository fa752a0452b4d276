"""Tests of ablations: which models belong to one, and the numbers in their rows."""

import tomllib
from pathlib import Path

import pandas as pd
import pytest

from harness.evaluation.counts import robust_images
from harness.reporting import renderers, tables, traits
from harness.reporting.ablations import VARIED, ablations, neighbours
from harness.reporting.cells import Cell
from harness.reporting.frames import summary
from harness.reporting.report import build
from harness.statistics import mcnemar, paired_bootstrap, paired_difference
from model_zoo import registry
from model_zoo.schema import Record
from tests.harness.reporting.registry import ablated, pruned

FIELDS = [
    "base",
    "keep_ratio",
    "keep_ratio",
    "keep_ratio",
    "allocation_power",
    "allocation_power",
    "last_batch_norm",
    "weight_init",
    "seed",
    "seed",
]


@pytest.fixture
def ablation() -> pd.DataFrame:
    outcomes, models = ablated()
    return ablations(outcomes, summary(outcomes, models))


def row_of(ablation: pd.DataFrame, model: str) -> pd.Series:
    (row,) = [row for _, row in ablation.iterrows() if row["model"] == model]
    return row


def test_the_base_has_most_neighbours_and_they_differ_in_one_trait() -> None:
    neighbour_traits = neighbours(summary(*ablated()))
    assert list(neighbour_traits) == ["k10", "k50", "k20", "k01", "p1", "p0", "no-lbn", "kaiming", "seed1", "seed2"]
    assert list(neighbour_traits.values()) == FIELDS


def test_no_ablation_without_neighbours(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    assert ablations(outcomes, summary(outcomes, models)).empty
    frame, registered = ablated()
    alone = registered[registered["id"].isin(["k10", "k20-p1", "longer", "w28-dense"])]
    assert neighbours(summary(frame[frame["model"].isin(alone["id"])], alone)) == {}


def test_the_base_with_the_lowest_seed_is_chosen_on_ties() -> None:
    frame, registered = ablated()
    seed_models = registered[registered["id"].isin(["seed1", "seed2"])].assign(near_constant=False)
    assert next(iter(neighbours(summary(frame[frame["model"].isin(seed_models["id"])], seed_models)))) == "seed1"


def test_a_row_compares_worst_cases_on_common_images(ablation: pd.DataFrame) -> None:
    row, base = row_of(ablation, "no-lbn"), row_of(ablation, "k10")
    assert (row["worst"], base["worst"], row["paired_images"]) == (10 / 40, 14 / 40, 40)
    assert row["difference"] == pytest.approx(-4 / 40) and row["mcnemar_p"] == pytest.approx(2 / 2**4)
    left = [2 <= image < 12 for image in range(40)]
    right = [2 <= image < 16 for image in range(40)]
    assert (row["difference"], row["difference_low"], row["difference_high"]) == pytest.approx(paired_difference(left, right))
    assert (row["bootstrap_low"], row["bootstrap_high"]) == paired_bootstrap(left, right)[1:]
    assert row["mcnemar_p"] == mcnemar(left, right) and pd.isna(base["difference"])


def test_differences_use_common_images_only() -> None:
    outcomes, models = ablated()
    cut = outcomes[(outcomes["model"] != "p0") | (outcomes["image"] < 15)]
    row = row_of(ablations(cut, summary(cut, models)), "p0")
    assert (row["paired_images"], row["difference"]) == (15, pytest.approx(-1 / 15))
    (table,) = tables.render(tables.get("ablations"), ablations(cut, summary(cut, models)))
    (row_cells,) = [line for line in table.rows if str(line[1]) == "0"]
    assert str(row_cells[-2]).endswith("partial 15/40")


def test_worst_cases_over_different_attacks_are_not_compared() -> None:
    outcomes, models = ablated()
    expected = outcomes.groupby(["dataset", "norm", "radius", "model", "attack"], as_index=False).agg(images=("image", "size"))
    cut = outcomes[(outcomes["model"] != "p0") | (outcomes["attack"] == "pgd")]
    weaker = expected[(expected["model"] != "p0") | (expected["attack"] == "pgd")]
    row = row_of(ablations(cut, summary(cut, models, weaker)), "p0")
    assert row["worst_n"] == 40 and pd.isna(row["difference"]) and pd.isna(row["mcnemar_p"])


def test_the_last_row_is_the_spread_over_seeds(ablation: pd.DataFrame) -> None:
    last = ablation.iloc[-1]
    assert (last["varied"], last["value"], last["seeds"]) == ("seed", "spread of 3", 3)
    assert (last["worst_min"], last["worst_max"]) == (12 / 40, 16 / 40)
    assert last["worst_sd"] == pytest.approx(0.05), "of 12, 14 and 16 of 40, with n - 1"
    assert last["pgd_max"] == 18 / 40 and pd.isna(last["worst_n"])


def test_the_spread_excludes_seeds_with_fewer_images() -> None:
    outcomes, models = ablated()
    cut = outcomes[(outcomes["model"] != "seed2") | (outcomes["image"] < 30)]
    last = ablations(cut, summary(cut, models)).iloc[-1]
    assert last["value"] == "spread of 2" and last["worst_max"] == 14 / 40
    single_seed = outcomes[~outcomes["model"].isin(["seed1", "seed2"])]
    assert not ablations(single_seed, summary(single_seed, models))["value"].str.startswith("spread").any()


def test_the_table_names_its_base_and_each_varied_trait_once(ablation: pd.DataFrame) -> None:
    (table,) = tables.render(tables.get("ablations"), ablation)
    assert [str(row[0]) for row in table.rows] == [
        "base",
        "keep ratio",
        "",
        "",
        "allocation power p",
        "",
        *list(VARIED.values())[2:],
        "",
        "",
    ]
    assert [str(row[1]) for row in table.rows] == ["", "0.5", "0.2", "0.01", "1", "0", "none", "kaiming-normal", "1", "2", "spread of 3"]
    assert table.headings == ["varied", "value", "bytes", "clean", "cw-linf", "pgd", "worst", "n", "difference", "p"]
    assert str(table.rows[6][-2]).startswith("−10.0 [−") and str(table.rows[6][-1]) == "0.125"
    assert str(table.rows[-1][6]) == "30.0–40.0 (sd 5.0)"
    assert any(note.startswith("Base: k10 (keep ratio 0.1, allocation power p 0.1, last batch norm plain") for note in table.notes)
    assert all(len(row) == len(table.headings) for row in table.rows)


def test_latex_separates_groups_and_uses_math_minus_signs(ablation: pd.DataFrame) -> None:
    text = renderers.latex(tables.render(tables.get("ablations"), ablation))
    assert text.count(r"\addlinespace") == 5 and r"[$-$" in text and "−" not in text and "–" not in text
    assert ablation["mcnemar_p"].min() < 0.05
    assert renderers.latex([tables.Table("c", ["p"], [[Cell("p", 0.0001)]], [True], [])]).count("$<$0.001") == 1


def test_a_report_contains_the_table_after_the_summary_if_it_is_not_empty(
    tmp_path: Path, outcomes: pd.DataFrame, models: pd.DataFrame
) -> None:
    all_outcomes, registered = ablated()
    few = registered[registered["id"].isin(["k10", "no-lbn"])]
    names = [path.name for path in build(all_outcomes[all_outcomes["model"].isin(few["id"])], few, tmp_path / "ablation").paths]
    assert names[0] == "summary.md" and names[2:4] == ["ablations.md", "ablations.csv"]
    read = pd.read_csv(tmp_path / "ablation" / "ablations.csv")
    assert read["model"].tolist() == ["k10", "no-lbn"] and read["difference"].min() == pytest.approx(-4 / 40)
    assert not [path for path in build(outcomes, models, tmp_path / "small").paths if path.stem == "ablations"]


def record(**changes: object) -> Record:
    text = registry.record_path("cifar10-rn8w32-pruned-binary-k20-p01").read_text()
    return Record.model_validate({**tomllib.loads(text), **changes})


def test_the_setting_covers_what_determines_weights_and_is_not_varied() -> None:
    architecture = {**record().architecture, "last_batch_norm": "none"}
    varied = record(id="other", keep_ratio=0.5, allocation_power=1.0, seed=3, architecture=architecture, weight_bits=32, title="x")
    base, variant = traits._traits(record()), traits._traits(varied)
    assert base["setting"] == variant["setting"]
    assert (base["last_batch_norm"], variant["last_batch_norm"], base["weight_init"], variant["seed"]) == ("plain", "none", "binary", 3)
    wider = record(architecture={**record().architecture, "width": 48})
    for changed in (record(threat={"norm": "Linf", "radius": "4/255"}), record(method="other"), wider):
        assert traits._traits(changed)["setting"] != base["setting"]


def test_shipped_recipes_differ_from_their_base_in_one_trait() -> None:
    ablation = [pruned("x")]
    base = "cifar10-rn8w32-pruned-binary-k10-p01"
    for path in sorted(registry.package_folder("recipes").glob("cifar10-rn8w32-pruned-binary-*.toml")):
        recipe = traits._recipe(path.stem)
        assert recipe is not None
        options = recipe["options"]
        varied = {name: options[name] for name in ("keep_ratio", "allocation_power", "weight_init")}
        recipe_traits = traits._traits(record(recipe=path.stem, architecture=recipe["architecture"], seed=recipe["seed"], **varied))
        ablation.append({**pruned(path.stem), **recipe_traits, **varied})
    part = pd.DataFrame(ablation[1:]).rename(columns={"id": "model"}).assign(worst=0.2)
    neighbour_traits = neighbours(part)
    # TRADES is a training method with a separate table, and the sweeps that train three times as long are separate, so neither is an
    # ablation of the base.
    longer = {model for model in part["model"] if model.endswith("-e15")}
    trained_alike = set(part.loc[part["training"] == "pgd", "model"]) - longer
    assert set(part["model"]) - trained_alike == {f"{base}-trades"} | longer and len(longer) == 5
    assert (
        next(iter(neighbour_traits)) == base
        and set(neighbour_traits) == trained_alike
        and set(neighbour_traits.values()) == {"base", *VARIED}
    )


def test_traits_of_registered_models_only() -> None:
    ids = {"cifar10-rn8w32-pruned-binary-k20-p01": "cifar10-rn8w32-pruned-binary-k20-p01", "gone": "gone"}
    frame = traits.with_traits(pd.DataFrame({"id": list(ids), "seed": [7, 7]}), ids)
    assert frame["seed"].tolist()[0] == 0 and pd.isna(frame["seed"][1]) and pd.isna(frame["setting"][1])
    assert [frame[name].iloc[0] for name in ("architecture", "trained_on", "trained_for")] == ["cifar-resnet8", "cifar10", "Linf 8/255"]


def test_robust_images_withstand_all_attacks(outcomes: pd.DataFrame) -> None:
    large = outcomes[outcomes["model"] == "large"]
    assert robust_images(large, ["pgd", "cw-linf"]).sum() == 5
    assert robust_images(large, ["pgd", "absent"]).empty


def test_a_masking_flag_marks_the_difference_and_the_spread() -> None:
    outcomes, models = ablated()
    flags = pd.Series("", index=outcomes.index).mask((outcomes["model"] == "seed1") & (outcomes["attack"] == "pgd"), "saturated")
    marked = outcomes.assign(flags=flags)
    (table,) = tables.render(tables.get("ablations"), ablations(marked, summary(marked, models)))
    shown = [dict(zip(table.headings, map(str, row), strict=True)) for row in table.rows]
    assert [position for position, row in enumerate(shown) if "§" in row["difference"]] == [8], "seed 1"
    assert shown[-1]["worst"] == "30.0–40.0§ (sd 5.0)" and "§" not in shown[-1]["clean"]
