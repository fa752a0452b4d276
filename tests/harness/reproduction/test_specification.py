"""Tests of the paper's tables as data: published cells, settings, footnotes, and errors for damaged files."""

import hashlib
from collections import defaultdict
from pathlib import Path

import pytest

from harness.plugins import PAPER_TABLES
from harness.reproduction import specification
from harness.reproduction.specification import PaperTable, get
from model_zoo.errors import DamagedFileError, UnknownNameError
from model_zoo.plugin_folders import VARIABLE

# Number of cells, their sum, and the hash of the sorted printed numbers; these were checked against the paper's text.
CHECKED = {
    "liu2022-1": (49, 1625.82, "005a3c5b6b9e"),
    "liu2022-2": (8, 324.07, "57589dce9679"),
    "liu2022-3": (28, 1099.76, "ff6beb9d92d6"),
    "liu2022-4": (61, 1839.73, "211ad83bc9ea"),
    "liu2022-5": (44, 1416.57, "944e8ccc8829"),
    "liu2022-6": (0, 0.0, "e3b0c44298fc"),
    "liu2022-7": (0, 0.0, "e3b0c44298fc"),
    "liu2022-8": (28, 2577.38, "52ad6ce7d0dc"),
    "liu2022-9": (108, 3208.83, "f0b9980e3cba"),
    "liu2022-10": (61, 3544.47, "328286c1feed"),
    "liu2022-11": (59, 4214.92, "2044f17d944c"),
    "liu2022-v1-8": (36, 1923.61, "70160704daab"),
}
TABLE = """
paper = "other2030"
number = "1"
title = "A table"
caption = "Numbers."
source = "a paper"
stub = ["p"]
best = "column"
settings = { method = "ours", architecture = "rn34", weights = "binary", dataset = "cifar10", radius = "8/255", strategy = "adaptive" }
rows = [{ name = "p = 0", labels = ["0"], settings = { p = 0.0 } }, { name = "p = 1", labels = ["1"], settings = { p = 1.0 } }]
columns = [{ name = "r = 0.9", labels = ["r = 0.9"], settings = { keep_ratio = 0.1 } }]

[[cells]]
rows = ["p = 0"]
columns = ["r = 0.9"]
settings = { last_bn = true }
published = { percent = "12.30", page = "p. 1", note = "A note." }
"""


def test_all_tables_are_listed_in_order() -> None:
    assert specification.names() == list(CHECKED)
    assert sum(len(get(name).grid) for name in specification.names()) == 482


@pytest.mark.parametrize("name", CHECKED)
def test_published_numbers_match_the_paper(name: str) -> None:
    printed = [cell.published.percent for cell in get(name).grid.values()]
    digest = hashlib.sha256(" ".join(sorted(printed)).encode()).hexdigest()
    assert (len(printed), round(sum(map(float, printed)), 2), digest[:12]) == CHECKED[name]


def test_cells_have_the_published_numbers() -> None:
    assert get("table-1").grid["p = 0.1", "r = 0.99"].published.percent == "44.88"
    assert get("table-2").grid["a = 0.1", "no LBN"].published.percent == "41.01"
    assert get("table-3").grid["p = 0.2", "Signed KC LBN"].published.percent == "45.04"
    assert get("table-4").grid["ATMC RN34 global", "ImageNet-100 binary"].published.percent == "5.78"
    assert get("table-9").grid["TRADES RN34", "CIFAR-10 FP"].published.percent == "49.07"
    assert get("table-10").grid["Ours RN34-LBN", "CIFAR-10 binary"].published.percent == "76.59"
    assert ("Ours RN34-LBN", "CIFAR-10 FP") not in get("table-4").grid, "the method has no full-precision weights"


def test_tables_1_to_3_have_82_models() -> None:
    cells = [cell for name in ("table-1", "table-2", "table-3") for cell in get(name).grid.values()]
    assert (len(cells), len({cell.settings for cell in cells})) == (85, 82)
    settings = get("table-2").grid["a = 0.001", "LBN"].settings
    assert settings == get("table-3").grid["p = 0.1", "binary LBN"].settings
    assert get("table-2").grid["a = 0.1", "no LBN"].settings == get("table-3").grid["p = 0.1", "binary no LBN"].settings
    assert settings == get("table-9").grid["Ours RN34-LBN p=0.1", "CIFAR-10 binary"].settings


def test_settings_have_one_number_except_for_contradictions_in_the_paper() -> None:
    numbers = defaultdict(set)
    for name in CHECKED:
        table = get(name)
        for cell in table.grid.values():
            numbers[cell.settings, table.measure].add(cell.published.percent)
    assert {tuple(sorted(values)) for values in numbers.values() if len(values) > 1} == {("22.49", "23.32"), ("24.62", "24.65")}
    slugs = {settings.slug for settings, _ in numbers}
    assert len(slugs) == len({settings for settings, _ in numbers})


def test_settings_of_a_cell_combine_row_column_and_exceptions() -> None:
    cells = get("table-4").grid
    assert cells["AT Small RN34", "CIFAR-10 FP"].settings.architecture == "small-rn34-p1.0", "the number is that of the p = 1.0 network"
    assert cells["AT Small RN34", "ImageNet-100 FP"].settings.architecture == "small-rn34-p0.1"
    assert get("table-10").grid["AT Small RN34", "CIFAR-10 FP"].settings.architecture == "small-rn34-p0.1"
    assert (cells["AT RN34", "CIFAR-100 FP"].settings.radius, cells["AT RN34", "CIFAR-100 FP"].settings.weights) == ("4/255", "fp")
    assert all(cell.settings.radius == "0" for name in ("table-8", "table-11") for cell in get(name).grid.values())
    hydra = get("table-9").grid["HYDRA RN34-LBN p=1.0", "CIFAR-100 binary"].settings
    assert (hydra.strategy, hydra.p, hydra.keep_ratio, hydra.last_bn) == ("adaptive", 1.0, 0.01, True)
    constant = get("table-3").grid["p = 0.5", "Signed KC LBN"].settings
    assert (constant.init, constant.score_scale) == ("signed-constant", None)


@pytest.mark.parametrize(
    ("table", "row", "column", "words"),
    [
        ("table-4", "AT Small RN34", "CIFAR-10 FP", "p = 0.1 has 42.01"),
        ("table-4", "AT Small RN34", "CIFAR-10 binary", "p = 0.1 has 32.54"),
        ("table-4", "AT Small RN34", "CIFAR-100 FP", "p = 0.1 has 28.46"),
        ("table-4", "AT Small RN34", "CIFAR-100 binary", "p = 0.1 has 16.18"),
        ("table-4", "AT Small RN34", "ImageNet-100 FP", "unknown"),
        ("table-10", "AT Small RN34", "CIFAR-100 binary", "p = 0.1 network"),
        ("table-4", "FlyingBird RN34", "CIFAR-100 binary", "22.49"),
        ("table-9", "FlyingBird RN34", "CIFAR-100 binary", "23.32"),
        ("table-4", "ATMC RN34 p=0.1", "CIFAR-10 binary", "24.65"),
        ("table-9", "ATMC RN34 p=0.1", "CIFAR-10 binary", "24.62"),
        ("table-10", "Ours RN34-LBN", "CIFAR-10 binary", "77.30"),
        ("table-5", "AT small", "RN18 FP", "interchanged"),
        ("table-5", "AT small", "RN18 binary", "interchanged"),
        ("table-5", "AT small", "RN50 FP", "interchanged"),
        ("table-5", "AT small", "RN50 binary", "interchanged"),
        ("table-5", "BCS", "RN18 binary", "poster"),
        ("table-5", "BCS", "RN50 binary", "poster"),
        ("table-1", "p = 1", "r = 0.99", "30.62"),
        ("table-3", "p = 1", "binary LBN", "34.57"),
    ],
)
def test_every_contradiction_has_a_footnote(table: str, row: str, column: str, words: str) -> None:
    assert words in get(table).grid[row, column].published.note


def test_rows_and_columns_are_selected_by_name_or_label() -> None:
    table = get("table-9")
    assert len(table.choose(columns=["CIFAR-10"])) == 54
    assert len(table.choose(columns=["CIFAR-10 binary"])) == 28
    assert {cell.row.name for cell in table.choose(rows=["BCS"])} == {"BCS RN34", "BCS RN34-LBN"}
    with pytest.raises(UnknownNameError, match=r"unknown column of liu2022-9 'CIFAR10'. Did you mean 'CIFAR-10'"):
        table.choose(columns=["CIFAR10"])
    with pytest.raises(UnknownNameError, match=r"unknown row of liu2022-9 'HIDRA'. Did you mean 'HYDRA'"):
        table.choose(rows=["HIDRA"])


def test_tables_have_aliases_and_unknown_names_get_suggestions() -> None:
    assert get("table-4") is get("liu2022-4")
    for name, suggestion in (("tabel-4", "table-4"), ("liu202-4", "liu2022-4"), ("table-14", "table-4")):
        with pytest.raises(UnknownNameError, match=f"unknown table '{name}'. Did you mean '{suggestion}'"):
            get(name)


def test_a_plug_in_folder_adds_a_table_with_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "paper_tables").mkdir()
    (tmp_path / "paper_tables" / "other2030-1.toml").write_text(TABLE)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert specification.names()[-1] == "other2030-1" and "other2030-1" in PAPER_TABLES.names()
    (cell,) = get("other2030-1").grid.values()
    assert cell.published.value == 0.123 and cell.settings.last_bn and cell.settings.p == 0.0


def read(tmp_path: Path, old: str, new: str) -> PaperTable:
    assert old in TABLE
    path = tmp_path / "t.toml"
    path.write_text(TABLE.replace(old, new))
    return get(str(path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('rows = ["p = 0"]', 'rows = ["p = 00"]', "expected a row, found 'p = 00' .did you mean 'p = 0'"),
        ('columns = ["r = 0.9"]', 'columns = ["r = 9"]', "expected a column, found 'r = 9' .did you mean 'r = 0.9'"),
        ('percent = "12.30"', 'percent = "1230"', "not a percentage"),
        ("last_bn = true", "last_bm = true", "row 'p = 0', column 'r = 0.9'.*last_bm"),
        (
            "p = 0.0 }",
            'p = 0.0, strategy = "global" }',
            "strategy 'adaptive', and no other, needs an allocation power",
        ),
        ('stub = ["p"]', 'stub = ["p", "q"]', "expected 2 labels in row 'p = 0', found 1"),
        ('name = "p = 1"', 'name = "p = 0"', "several called 'p = 0'"),
        ('title = "A table"', "", "title: Field required"),
        ('radius = "8/255"', 'radius = "nan"', "not a radius"),
        ('radius = "8/255"', 'radius = "8"', "larger than the range of pixels"),
        ("keep_ratio = 0.1", "keep_ratio = 0.1, score_scale = inf", "score_scale"),
        ("p = 0.0", 'p = "0.0"', "p: Input should be a valid number"),
        ('number = "1"', "number = 1", "number: Input should be a valid string"),
        (
            "[[cells]]",
            '[[claims]]\nkind = "best-row-follows"\ntext = "t"\nrow_setting = "method"\ncolumn_setting = "p"\n[[cells]]',
            "row_setting",
        ),
        ('best = "column"', 'published = "gone.csv"', "published values in gone.csv"),
        ("[[cells]]", '[[claims]]\nkind = "higher"\ntext = "t"\npairs = [["r = 0.9", "r = 0.99"]]\n[[cells]]', "'r = 0.99' .did you mean"),
        ("[[cells]]", '[[claims]]\nkind = "hihger"\ntext = "t"\n[[cells]]', "claims.0"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_the_fault(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(DamagedFileError, match=message) as caught:
        read(tmp_path, old, new)
    assert "\n" not in str(caught.value) and "t.toml" in str(caught.value)


def test_published_values_from_a_file_are_checked(tmp_path: Path) -> None:
    for line, message in (
        ("1,p = 2,r = 0.9,autoattack,5,,", "'p = 2' .did you mean"),
        ("1,p = 1,r = 0.9,clean,5,,", "measure 'autoattack'"),
        ("1,p = 0,r = 0.9,autoattack,5,,", "one value per cell"),
        ("1,p = 1,r = 0.9,autoattack,many,,", "'many' is not a percentage"),
        ("1,p = 1,r = 0.9,autoattack,1e1,,", "'1e1' is not a percentage"),
        ("1,p = 1,r = 0.9,autoattack,nan,,", "'nan' is not a percentage"),
        ("1,p = 1,r = 0.9", "7 values in every row"),
        ("1,p = 1,r = 0.9,autoattack,5,,,", "7 values in every row"),
        (f'"{"a" * 200_000}",p = 1,r = 0.9,autoattack,5,,', "field larger"),
    ):
        (tmp_path / "values.csv").write_text(f"table,row,column,measure,percent,page,note\n{line}\n2,x,y,clean,1,,\n")
        with pytest.raises(DamagedFileError, match=message):
            read(tmp_path, 'best = "column"', 'published = "values.csv"')
