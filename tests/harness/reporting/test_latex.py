"""Tests that the LaTeX tables compile without overfull lines."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.reporting.report import build

ROOT = Path(__file__).parents[3]
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
\begin{document}
%s
\end{document}
"""


def log_of(files: list[Path], folder: Path) -> str:
    """Compile a document of all files and return the log of pdflatex."""
    (folder / "tables.tex").write_text(DOCUMENT % "\n\\clearpage\n".join(path.read_text() for path in files))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "tables.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
    log = (folder / "tables.log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    return log


@pytest.mark.needs_latex
def test_tables_of_a_report_compile(outcomes: pd.DataFrame, models: pd.DataFrame, tmp_path: Path) -> None:
    odd = models.assign(id=models["id"].replace("large", r"la_r&ge #1 50% {x} $y$ ^~\z ±1"))
    renamed = outcomes.assign(model=outcomes["model"].replace("large", r"la_r&ge #1 50% {x} $y$ ^~\z ±1"))
    files = build(renamed, odd, tmp_path / "report", formats=("tex",)).paths
    assert files and "Overfull" not in log_of(files, tmp_path)


@pytest.mark.needs_latex
def test_tables_of_the_committed_results_compile(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["report", "--store", str(ROOT / "results"), "--out", str(tmp_path), "--format", "tex"])
    assert done.exit_code == 0, done.output
    for folder in (path for path in tmp_path.iterdir() if path.is_dir()):
        assert "Overfull" not in log_of(sorted(folder.glob("*.tex")), tmp_path), folder.name
