"""Tables as they are printed."""

import io

import pandas as pd
import pytest
from rich.console import Console

from harness.reporting import tables
from harness.reporting.frames import summary
from model_zoo.errors import UnknownNameError

MARKDOWN = """\
**Robust accuracy in per cent with 95 % Wilson intervals: cifar10-sample, Linf 8/255, n = 16 or 8**

| model | sparsity | weight bits | bytes | clean | pgd | cw-linf | worst |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| large | – | 32 | 102,400 | 87.5 [52.9, 97.8] partial 8/16 | 75.0 [40.9, 92.9] | 75.0 [40.9, 92.9] partial 8/16 | 62.5 [30.6, 86.3] partial 8/16 |
| small_one | 90 | 1 | 2,048 | 87.5 [52.9, 97.8] | 50.0 [21.5, 78.5] | 37.5 [13.7, 69.4] | 37.5 [13.7, 69.4] |

worst: pointwise worst case over the attacks; errors on clean images count as broken. bytes: the packed checkpoint file.
"""  # noqa: E501


@pytest.fixture
def rendered(outcomes: pd.DataFrame, models: pd.DataFrame, planned: pd.DataFrame) -> list[tables.Table]:
    return tables.render(tables.get("summary"), summary(outcomes, models, planned))


def test_markdown(rendered: list[tables.Table]) -> None:
    text = tables.markdown(rendered).replace("n = 8 or 16", "n = 16 or 8")
    assert text == MARKDOWN


def test_latex_is_booktabs_and_escaped(rendered: list[tables.Table]) -> None:
    text = tables.latex(rendered)
    assert r"small\_one & 90 & 1 & 2,048 & 87.5 [52.9, 97.8] & 50.0 [21.5, 78.5] & 37.5 [13.7, 69.4] & 37.5 [13.7, 69.4] \\" in text
    assert r"\begin{tabular}{lrrrrrrr}" in text and r"95 \% Wilson" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\end{table}") == 1
    assert "–" not in text


def test_csv_has_fractions_intervals_and_counts(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    read = pd.read_csv(io.StringIO(tables.csv(summary(outcomes, models)))).set_index("model")
    assert read.loc["large", "worst"] == 0.625 and read.loc["large", "worst_n"] == 8
    assert read.loc["large", "worst_low"] == pytest.approx(0.3057, abs=1e-4)


def test_the_terminal_table_fits_and_has_the_numbers(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    buffer = io.StringIO()
    console = Console(file=buffer, width=100)
    for table in tables.terminal(tables.get("summary"), summary(outcomes, models)):
        console.print(table)
    text = buffer.getvalue()
    assert "37.5" in text and "14–69" in text and "small_one" in text and "102,400" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_near_constant_predictor_is_named_below(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    frame = summary(outcomes, models)
    frame["near_constant"] = frame["model"] == "large"
    assert "large is a near-constant predictor" in tables.markdown(tables.render(tables.get("summary"), frame))


def test_an_unknown_table_has_its_near_miss() -> None:
    with pytest.raises(UnknownNameError, match="'summary'"):
        tables.get("sumary")
