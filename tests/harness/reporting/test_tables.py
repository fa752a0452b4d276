"""Tests of rendered tables: Markdown, LaTeX, CSV and terminal."""

import csv
import io
import re
from itertools import chain

import pandas as pd
import pytest
from rich.console import Console

from harness.reporting import renderers, tables
from harness.reporting.cells import Cell
from harness.reporting.frames import headline, summary
from model_zoo.errors import UnknownNameError
from tests.harness.reporting.conftest import rows
from tests.harness.reporting.registry import ablated

MARKDOWN = """\
**Robust accuracy in per cent with 95 % Wilson intervals: cifar10-sample, Linf 8/255, n = 8 or 16**

| model | sparsity, % | weight bits | bytes | clean | pgd | cw-linf | worst |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| large | – | 32 | 102,400 | 87.5 [52.9, 97.8] partial 8/16 | 75.0 [40.9, 92.9] | 75.0 [40.9, 92.9] partial 8/16 | 62.5 [30.6, 86.3] partial 8/16 |
| small_one | 90 | 1 | 2,048 | 87.5 [52.9, 97.8] | 50.0 [21.5, 78.5] | 37.5 [13.7, 69.4] | 37.5 [13.7, 69.4] |

worst: pointwise worst case over the attacks; errors on clean images count as broken. bytes: the packed checkpoint file.
"""  # noqa: E501


LATEX = r"""\begin{table}
\centering
\caption{Robust accuracy in per cent with 95 \% Wilson intervals: cifar10-sample, Linf 8/255, n = 8 or 16. worst: pointwise worst case over the attacks; errors on clean images count as broken. bytes: the packed checkpoint file.}
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{\begin{tabular}{lrrrrrrr}
\toprule
model & sparsity, \% & weight bits & bytes & clean & pgd & cw-linf & worst \\
\midrule
large & -- & 32 & 102,400 & 87.5 [52.9, 97.8] partial 8/16 & 75.0 [40.9, 92.9] & 75.0 [40.9, 92.9] partial 8/16 & 62.5 [30.6, 86.3] partial 8/16 \\
small\_one & 90 & 1 & 2,048 & 87.5 [52.9, 97.8] & 50.0 [21.5, 78.5] & 37.5 [13.7, 69.4] & 37.5 [13.7, 69.4] \\
\bottomrule
\end{tabular}}
\end{table}
"""  # noqa: E501


@pytest.fixture
def rendered(outcomes: pd.DataFrame, models: pd.DataFrame, planned: pd.DataFrame) -> list[tables.Table]:
    return tables.render(tables.get("summary"), summary(outcomes, models, planned))


def test_markdown(rendered: list[tables.Table]) -> None:
    assert renderers.markdown(rendered) == MARKDOWN


def test_latex(rendered: list[tables.Table]) -> None:
    assert renderers.latex(rendered) == LATEX


def test_latex_escapes_special_characters() -> None:
    cells = [[Cell("text", "{1}_2#3$4&5%6")], [Cell("text", "±1 – 2")]]
    assert renderers.latex([tables.Table(r"a\b", ["x~y^z"], cells, [False], [])]).count(r"\textbackslash{}b") == 1
    text = renderers.latex([tables.Table("caption", ["x~y^z"], cells, [False], [])])
    assert r"x\textasciitilde{}y\textasciicircum{}z \\" in text
    assert r"\{1\}\_2\#3\$4\&5\%6 \\" in text and r"$\pm$1 -- 2 \\" in text


def test_csv_contains_fractions_intervals_and_integer_counts(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    frame = summary(outcomes, models[models["id"] == "large"])
    text = renderers.csv(frame)
    read = {row["model"]: row for row in csv.DictReader(io.StringIO(text))}
    assert read["large"]["worst"] == "0.625" and read["large"]["worst_n"] == "8" and read["small_one"]["bytes"] == ""
    assert [float(row["worst_low"]) for row in read.values()] == frame["worst_low"].tolist(), "interval ends are not rounded"
    assert ",102400\n" in text and "102400.0" not in text


def test_the_terminal_table_fits_its_width(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    buffer = io.StringIO()
    console = Console(file=buffer, width=100)
    for table in renderers.terminal(tables.render(tables.get("summary"), summary(outcomes, models))):
        console.print(table)
    text = buffer.getvalue()
    assert "37.5" in text and "14–69" in text and "small_one" in text and "102,400" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_narrow_terminal_wraps_names_but_not_numbers(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    long = {"small_one": "cifar10-rn8w32-pruned-binary-k20-p01"}
    buffer = io.StringIO()
    for table in renderers.terminal(
        tables.render(tables.get("summary"), summary(outcomes.replace({"model": long}), models.replace({"id": long})))
    ):
        Console(file=buffer, width=60).print(table)
    assert all(number in buffer.getvalue() for number in ("102,400", "37.5", "14–69", "53–98"))


def test_partial_cells_do_not_wrap_names(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    long = {"small_one": "cifar10-rn8w32-pruned-binary-k20-p01"}
    missing = outcomes[(outcomes["model"] != "small_one") | (outcomes["attack"] == "pgd")]
    buffer = io.StringIO()
    for table in renderers.terminal(
        tables.render(tables.get("summary"), summary(missing.replace({"model": long}), models.replace({"id": long})))
    ):
        Console(file=buffer, width=96).print(table)
    assert "cifar10-rn8w32-pruned-binary-k20-p01 " in buffer.getvalue() and "0/8" in buffer.getvalue()


def test_a_near_constant_model_is_named_in_a_note(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    frame = summary(outcomes, models)
    frame["near_constant"] = frame["model"] == "large"
    assert "large is a near-constant predictor" in renderers.markdown(tables.render(tables.get("summary"), frame))


def two_datasets() -> pd.DataFrame:
    outcomes, models = ablated()
    second_set = outcomes[outcomes["attack"] == "pgd"].assign(dataset="cifar100-sample", radius="4/255")
    return summary(pd.concat([outcomes, second_set]), models)


def test_markdown_rows_have_equal_numbers_of_cells() -> None:
    frame = two_datasets()
    parts = renderers.markdown(tables.render(tables.get("summary"), frame)).split("\n\n")
    line_groups = [part.splitlines() for part in parts if part.startswith("|")]
    assert [len(lines) for lines in line_groups] == [2 + 16, 2 + 16]
    assert [{line.count("|") for line in lines} for lines in line_groups] == [{9}, {8}], "the second data set has one attack less"
    assert all(set(lines[1]) <= set("|-: ") for lines in line_groups)


def test_latex_of_several_data_sets_is_balanced() -> None:
    frame = two_datasets()
    text = renderers.latex(tables.render(tables.get("summary"), frame))
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    for part in text.split("\n\n"):
        columns = part.split(r"\begin{tabular}{")[1].split("}")[0]
        lines = [line for line in part.splitlines() if line.endswith(r" \\")]
        assert len(lines) == 1 + 16 and {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(columns)}
        # LaTeX would read a row that starts with a bracket as an optional argument of the previous row end.
        assert not any(line.startswith("[") for line in lines)
        assert part.count("{") - part.count(r"\{") == part.count("}") - part.count(r"\}")


def test_an_unknown_table_error_has_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="'summary'"):
        tables.get("sumary")


def test_the_verdict_has_a_column_and_its_reasons_a_note(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    frame = summary(outcomes, models)
    ids = frame["model"].unique().tolist()
    assert "verdict" not in renderers.markdown(tables.render(tables.get("summary"), frame))
    frame["verdict"] = frame["model"].map({ids[0]: "masked"})
    frame["verdict_reasons"] = frame["model"].map({ids[0]: "masked: Square breaks 9 of 10 images that no gradient attack does"})
    text = renderers.markdown(tables.render(tables.get("summary"), frame))
    assert "| worst | verdict |" in text and text.count(" masked |") == text.count(f"| {ids[0]} |")
    assert f"{ids[0]} is masked: Square breaks 9 of 10" in text and " – |" in text


def test_robust_accuracies_of_models_with_other_verdicts_than_ok_are_marked(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    verdicts = {"small_one": ("masked", "masked: Square breaks 9 of 40 images"), "large": (None, None)}
    diagnosed_models = models.assign(
        verdict=[verdicts[name][0] for name in models["id"]], verdict_reasons=[verdicts[name][1] for name in models["id"]]
    )
    frame = summary(outcomes, diagnosed_models)
    (table,) = tables.render(tables.get("summary"), frame)
    cells = {str(row[0]): dict(zip(table.headings, map(str, row), strict=True)) for row in table.rows}
    for model, mark in (("small_one", "‡"), ("large", "?")):
        assert all(re.match(rf"\d+\.\d{re.escape(mark)} \[", cells[model][name]) for name in ("pgd", "cw-linf", "worst"))
        assert re.match(r"\d+\.\d \[", cells[model]["clean"])
    assert {"‡: masked.", "?: undiagnosed.", "small_one is masked: Square breaks 9 of 40 images."} <= set(table.notes)
    assert r"\ddag{} [" in renderers.latex([table])
    ok = summary(outcomes, models.assign(verdict="ok", verdict_reasons=None))
    assert not re.search("[†‡?]", renderers.markdown(tables.render(tables.get("summary"), ok)))


def test_l2_results_without_apgd_are_named_after_their_attacks() -> None:
    assert headline("L2", ["cw-l2"]) == "after cw-l2" and headline("L2", ["cw-l2", "autoattack-l2"]) == "worst case"
    assert headline("Linf", ["pgd"]) == "worst case"
    for attacks, heading in ((("cw-l2",), "after cw-l2"), (("cw-l2", "autoattack-l2"), "worst")):
        outcomes = pd.DataFrame(list(chain(*(rows("a", attack, "1100") for attack in attacks)))).assign(norm="L2", radius="1/2")
        table = tables.render(tables.get("summary"), summary(outcomes, pd.DataFrame({"id": ["a"]})))[0]
        assert table.headings[table.fields.index("worst")] == heading
        assert any("not a worst case" in note for note in table.notes) == (heading != "worst")


def test_numbers_of_units_with_masking_flags_have_a_mark_and_a_note(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    flags = outcomes["attack"].map({"pgd": "saturated", "cw-linf": "non-finite"}).where(outcomes["model"] == "large", "")
    rendered = tables.render(tables.get("summary"), summary(outcomes.assign(flags=flags), models))
    large, small = ({heading: str(cell) for heading, cell in zip(rendered[0].headings, row, strict=True)} for row in rendered[0].rows)
    assert large["pgd"] == "75.0§ [40.9, 92.9]" and large["worst"].startswith("62.5§ [")
    assert not any("§" in text for text in (large["clean"], large["cw-linf"], *small.values()))
    note = "§: the cross-entropy has no gradient: attacks that follow it cannot move images (flags saturated)."
    assert note in rendered[0].notes and note in renderers.markdown(rendered)
    assert r"75.0\S{} [" in renderers.latex(rendered) and r"\S{}: the cross-entropy" in renderers.latex(rendered)
    buffer = io.StringIO()
    for table in renderers.terminal(rendered):
        Console(file=buffer, width=100).print(table)
    assert "75.0§" in buffer.getvalue() and "§: the cross-entropy" in buffer.getvalue()


def test_csv_omits_the_column_of_cells(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    header = renderers.csv(summary(outcomes, models)).splitlines()[0].split(",")
    assert "cells" not in header and {"worst", "worst_low", "worst_high", "worst_n", "worst_planned"} <= set(header)
