"""Tests of the command line: help, listings, one-line errors and exit statuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli.main import COMMANDS, main

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"


def harness(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom harness.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'numpy', 'matplotlib', 'pydantic', 'rich', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    result = harness(name, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output and f"harness {name}" in result.output


@pytest.mark.parametrize("name", [*sorted(COMMANDS.keys() - {"store"}), "store verify", "store merge", "store invalidate", "store pack"])
def test_every_command_prints_json_on_request(name: str) -> None:
    assert "--json" in harness(*name.split(), "--help").output


@pytest.mark.parametrize("kind", ["models", "datasets", "attacks", "suites", "tables", "recipes"])
def test_listings_as_tables_and_as_json(kind: str) -> None:
    rows = json.loads(harness("ls", kind, "--json").output)
    assert rows
    key = "id" if kind == "models" else "name"
    table = harness("ls", kind)
    assert table.exit_code == 0 and all(row[key] in table.output for row in rows)


def test_show_prints_the_record_and_footprint_of_a_model(tmp_path: Path) -> None:
    shown = json.loads(harness("show", MODEL, "--store", str(tmp_path), "--json").output)
    assert shown["record"]["keep_ratio"] == 0.05 and shown["sparsity"] == pytest.approx(0.95)
    assert shown["footprint"]["file_bytes"] == shown["record"]["checkpoint"]["bytes"]
    assert shown["footprint"]["kept_weights"] == pytest.approx(0.05 * shown["footprint"]["weights"], rel=0.01)
    assert "95" in harness("show", MODEL, "--store", str(tmp_path)).output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "cifar10-rn8w32-pruned-binary-k05"), ("unknown model", "Did you mean", "harness ls models")),
        (("run", "--suite", "quik"), ("unknown suite", "'quick'", "harness ls suites")),
        (("run", "--model", MODEL, "--attack", "pdg"), ("unknown attack", "'pgd'", "harness ls attacks")),
        (("run", "--model", MODEL, "--dataset", "cifar10-sampel"), ("unknown dataset", "'cifar10-sample'", "harness ls datasets")),
        (("run", "--model", MODEL, "--radius", "8/0"), ("not a radius",)),
        (("run", "--model", MODEL, "--n", "1001"), ("1000 images",)),
        (("run",), ("--suite", "--model")),
        (("run", "--suite", "quick", "--attack", "pgd"), ("a suite fixes",)),
        (("train", "cifar10-rn8w32-pruned-binary-k5-p01"), ("unknown recipe", "Did you mean")),
        (("run", "--no-such"), ("no such option", "--no-such", "run --help")),
        (("run", "--suite", "quick", "--n", "x"), ("--n", "'x'", "run --help")),
        (("export", MODEL, "--out", "."), ("--out", "is a directory")),
        (("rnu",), ("'rnu'", "'run'")),
        (("--no-such", "run"), ("--no-such", "--help")),
    ],
)
def test_usage_errors_are_one_line_with_exit_status_two(
    arguments: tuple[str, ...], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = harness(*arguments)
    assert not list(tmp_path.iterdir())
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert all(word.lower() in result.stderr.lower() for word in words), result.stderr


def test_report_of_an_empty_store_is_an_error(tmp_path: Path) -> None:
    result = harness("report", "--store", str(tmp_path / "empty"), "--out", str(tmp_path / "out"))
    assert result.exit_code == 1 and "no outcomes" in result.stderr
    assert not (tmp_path / "out").exists()


def test_run_stores_outcomes_writes_a_report_and_continues(tmp_path: Path) -> None:
    store, reports = tmp_path / "results", tmp_path / "reports"
    arguments = ("run", "--model", MODEL, "--attack", "pgd", "--n", "6", "--store", str(store), "--reports", str(reports))
    first = harness(*arguments)
    assert first.exit_code == 0, first.stderr
    assert "1 units run" in first.stderr and MODEL in first.stdout
    assert list(store.glob("units/*.parquet")) and list(reports.rglob("*.md")) and not list(reports.rglob("*.png")), (
        "one model has no figure"
    )
    repeated = harness(*arguments, "--json", "--compare", str(store))
    assert "0 units run, 1 already" in repeated.stderr and "agree with" in repeated.stderr and "6 of 6 images" in repeated.stderr
    (row,) = json.loads(repeated.stdout)
    assert row["model"] == MODEL


def test_report_as_pdf_and_latex(tmp_path: Path) -> None:
    store = Path(__file__).parents[3] / "results"
    result = harness(
        "report",
        "--suite",
        "quick",
        "--store",
        str(store),
        "--out",
        str(tmp_path),
        "--table",
        "adversarial-pruning",
        "--format",
        "pdf",
        "--format",
        "tex",
    )
    assert result.exit_code == 0, result.stderr
    assert "Pruned robust networks of AdversarialPruningBenchmark" in result.stdout and "45.50" in result.stdout
    suffixes = {path.suffix for path in (tmp_path / "quick").iterdir()}
    assert suffixes == {".tex", ".pdf"}
    assert {"masks_cifar10-sample.pdf", "bytes_cifar10-sample.pdf"} <= {path.name for path in (tmp_path / "quick").iterdir()}
    assert all(b"CreationDate" not in path.read_bytes() for path in tmp_path.rglob("*.pdf"))


def test_a_damaged_checkpoint_is_named_and_fails_the_run(tmp_path: Path) -> None:
    from model_zoo.registry import checkpoint_path, record_path

    record = tmp_path / record_path(MODEL).name
    record.write_bytes(record_path(MODEL).read_bytes())
    checkpoint = tmp_path / checkpoint_path(MODEL).name
    checkpoint.write_bytes(checkpoint_path(MODEL).read_bytes()[:-7])
    options = ("--store", str(tmp_path / "results"), "--reports", str(tmp_path / "reports"))
    result = harness("run", "--model", str(record), "--model", "cifar10-rn8w32-pruned-binary-k20-p01", "--n", "3", *options)
    assert result.exit_code == 1
    assert checkpoint.name in result.stderr and "bytes" in result.stderr
    assert "1 units run, 0 already" in result.stderr and "1 failed" in result.stderr
