"""Tests of the commands `harness compare` and `harness add`, on small models and a few images."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from harness import datasets
from harness.cli.main import main
from harness.runner.plan import plan_request
from harness.runner.store import Store
from harness.runner.work import run_unit
from model_zoo.registry import read_record

DENSE, PRUNED = "cifar10-rn8s29-dense", "cifar10-rn8w32-pruned-binary-k05-p01"
FACTORY = """
from torch import nn

def make_model():
    return nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 10))

def probabilities():
    return nn.Sequential(make_model(), nn.Softmax(1))

def ours():
    from model_zoo.loading import load_model
    return load_model("cifar10-rn8s29-dense")

def signs():
    from model_zoo.classifier import build_classifier
    fields = {"name": "cifar-resnet8", "classes": 10, "width": 4, "normalisation": "cifar10"}
    return build_classifier({**fields, "activation": "sign-ste"})
"""


def harness(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def compare(*arguments: str) -> Result:
    return harness("compare", *arguments, "--suite", "smoke", "--n", "4", "--workers", "1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_model.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_user_model_is_compared_with_the_models_of_a_suite(folder: Path) -> None:
    first = compare("my_model.py:make_model")
    assert first.exit_code == 0, first.stderr
    assert "9 units run" in first.stderr and "lacks outcomes of 2 models" in first.stderr and "harness diagnose" in first.stderr
    assert "my-model-" in first.stdout and DENSE in first.stdout and PRUNED in first.stdout and "tensors" in first.stdout
    assert (
        "withstands all of pgd, cw-linf under Linf 8/255" in first.stdout
        and "withstands cw-l2 under L2 1/2" in first.stdout
        and "Pareto front" in first.stdout
    )
    second = compare("my_model.py:make_model", "--json")
    assert second.exit_code == 0 and "units run" not in second.stderr
    content = json.loads(second.stdout)
    assert content["model"].startswith("my-model-") and content["unmet"] == []
    comparison = content["comparisons"][0]
    assert {opponent["result"]["model"] for opponent in comparison["opponents"]} == {DENSE, PRUNED}
    assert comparison["target"]["worst"]["images"] == 4 and comparison["target"]["size"]["convention"] == "tensors"


def test_outcomes_on_more_images_are_reused(folder: Path) -> None:
    store = Store(folder / "results")
    for unit in plan_request([DENSE], ["pgd", "cw-linf", "cw-l2"], "cifar10-sample", 6).units:
        run_unit(unit, store)
    result = compare("my_model.py:make_model", "--against", DENSE)
    assert "3 units run" in result.stderr and "lacks outcomes" not in result.stderr and "n = 4" in result.stdout


def test_conditions_decide_the_exit_status(folder: Path) -> None:
    passing = compare(DENSE, "--against", PRUNED, "--fail-under", "0")
    assert passing.exit_code == 0, passing.stderr
    # The checks for gradient masking run without being requested.
    assert "Square (1,000 queries) 0" in passing.stdout and "only decisions) 0" in passing.stdout and "shipped models 0" in passing.stdout
    failing = compare(DENSE, "--against", PRUNED, "--fail-under", "90")
    assert failing.exit_code == 1 and "--fail-under 90: the lower end" in failing.stderr
    # Four images are too few for a significant difference.
    insignificant = compare(DENSE, "--must-beat", PRUNED, "--json")
    assert insignificant.exit_code == 1 and f"--must-beat {PRUNED}" in insignificant.stderr
    assert [opponent["result"]["model"] for opponent in json.loads(insignificant.stdout)["comparisons"][0]["opponents"]] == [PRUNED]
    same_model = compare(DENSE, "--against", PRUNED, "--must-beat", DENSE)
    assert same_model.exit_code == 1 and "the same model" in same_model.stderr


HIDDEN = """
import torch
from harness.selftest.hostile import BorrowedLogits
from harness.selftest.toys import undefended
from model_zoo.loading import load_model

def make():
    return BorrowedLogits(undefended(), load_model("cifar10-rn8s29-dense"), None, 20.0).eval()
"""


def test_decisions_of_one_network_under_the_logits_of_another_are_detected(folder: Path) -> None:
    (folder / "hidden.py").write_text(HIDDEN)
    result = compare("hidden.py:make", "--against", DENSE, "--fail-under", "10")
    assert result.exit_code == 1 and "verdict masked" in result.stderr
    assert "decisions-better" in result.stdout and "Better" not in result.stdout


def test_a_rejected_model_is_not_attacked(folder: Path) -> None:
    result = compare("my_model.py:probabilities")
    assert result.exit_code == 1 and "probabilities" in result.stderr and not (folder / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("my_model.py:make_model", "--against", "dens"), "Did you mean 'dense'"),
        (("my_model.py:make_model", "--checkpoint", "absent.pt"), "no file"),
        (("my_model.py",), "name the function"),
        ((DENSE, "--against", DENSE), "no models to compare"),
        ((DENSE, "--dataset", "cifar100-sample"), "suite 'smoke' has no attacks on data like cifar100-sample"),
        ((DENSE, "--dataset", "cifar10-sampel"), "Did you mean 'cifar10-sample'"),
        (("cifar100-rn8w28-dense",), "has no data for"),
    ],
)
def test_usage_errors_are_one_line(arguments: tuple[str, ...], words: str, folder: Path) -> None:
    result = compare(*arguments)
    assert result.exit_code == 2 and words in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_run_suggests_add_for_a_model_without_a_record(folder: Path) -> None:
    result = harness("run", "--model", "my_model.py:make_model")
    assert result.exit_code == 2 and "harness add" in result.stderr


def test_an_added_model_of_this_package_is_packed_and_reuses_its_outcomes(folder: Path) -> None:
    options = (
        "--id",
        "mine",
        "--family",
        "dense",
        "--method",
        "madry2018",
        "--weight-bits",
        "32",
        "--dataset",
        "cifar10",
        "--radius",
        "8/255",
    )
    assert compare("my_model.py:ours", "--against", PRUNED).exit_code == 0
    result = harness("add", "my_model.py:ours", *options)
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in Path("added").iterdir()) == ["mine.safetensors", "mine.toml"]
    relu = read_record(Path("added/mine.toml"))
    assert (relu.activation_bits, relu.backward) == (32, "exact")
    assert harness("add", "my_model.py:signs", *options, "--out", "binary").exit_code == 0
    binary = read_record(Path("binary/mine.toml"))
    assert (binary.activation_bits, binary.backward) == (1, "ste")
    compared = compare("added/mine.toml", "--against", PRUNED)
    assert compared.exit_code == 0 and "units run" not in compared.stderr and "mine withstands" in compared.stdout
    attacked = harness("run", "--model", "added/mine.toml", "--attack", "pgd", "--n", "4", "--workers", "1")
    assert attacked.exit_code == 0 and "1 already" in attacked.stderr and "mine" in attacked.stdout
    repeated = harness("add", "my_model.py:ours", *options)
    assert repeated.exit_code == 2 and "already exists" in repeated.stderr
    mismatched = harness("add", "my_model.py:ours", *("1" if item == "32" else "other" if item == "mine" else item for item in options))
    assert mismatched.exit_code == 1 and "one-bit weights" in mismatched.stderr
    shipped = harness("add", DENSE, *options)
    assert shipped.exit_code == 2 and "expected FILE.py:FUNCTION" in shipped.stderr
    incomplete = harness("add", "my_model.py:ours", "--id", "x")
    assert incomplete.exit_code == 2 and "--family" in incomplete.stderr


MASKED = """
import torch
from torch import nn
from model_zoo.loading import load_model

class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = load_model("cifar10-rn8w28-dense")

    def forward(self, images):
        return self.net(torch.floor(images * 16) / 16)

def make():
    return Masked()
"""


def test_a_masked_model_meets_no_condition_and_is_marked(folder: Path) -> None:
    (folder / "masked.py").write_text(MASKED)
    result = compare("masked.py:make", "--against", DENSE, "--must-beat", DENSE, "--fail-under", "0")
    assert result.exit_code == 1 and result.stderr.count("verdict masked") == 2
    assert "zero-gradient" in result.stdout and "Better" not in result.stdout and "not placed on the Pareto front" in result.stdout
    content = json.loads(compare("masked.py:make", "--against", DENSE, "--json").stdout)
    assert content["comparisons"][0]["target"]["flags"] == ["zero-gradient"] and "masked" in content["comparisons"][0]["target"]["doubt"]


def test_all_common_images_count_by_default(folder: Path) -> None:
    store = Store(folder / "results")
    for unit in plan_request([DENSE, PRUNED], ["pgd", "cw-linf", "cw-l2"], "cifar10-sample", 20).units:
        run_unit(unit, store)
    options = ("compare", DENSE, "--against", PRUNED, "--suite", "smoke", "--workers", "1")
    all_images, four_images = harness(*options), harness(*options, "--n", "4")
    assert "3 units run" in all_images.stderr and "units run" not in four_images.stderr, "the probes alone, and once"
    assert "n = 20" in all_images.stdout and "n = 4" in four_images.stdout


def test_user_images_need_a_radius(folder: Path) -> None:
    sample = datasets.load("cifar10-sample", n=10)
    for label in range(10):
        (folder / "pictures" / str(label)).mkdir(parents=True)
    for row, label in enumerate(sample.labels):
        Image.fromarray(sample.images[row]).resize((40, 40)).save(folder / "pictures" / str(label) / f"{row}.png")
    data = ("--dataset", "folder:pictures", "--resize", "32", "--suite", "smoke", "--n", "4", "--workers", "1")
    without_radius = harness("compare", "my_model.py:make_model", *data)
    assert without_radius.exit_code == 2 and "--radius" in without_radius.stderr
    result = harness("compare", "my_model.py:make_model", *data, "--radius", "2/255", "--against", DENSE)
    assert result.exit_code == 0, result.stderr
    assert "Linf 2/255: worst case of pgd, cw-linf" in result.stdout and "-32px" in result.stdout and "cw-l2" not in result.stdout
    assert "transfer: not tested" in result.stdout and "no images of" in result.stderr


EVASIVE = """
from torch import nn
from harness.selftest.toys import undefended

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = undefended()
        self.eval()

    def forward(self, images):
        import sys
        frame = sys._getframe()
        while frame is not None:
            if frame.f_code.co_filename.endswith("rays.py"):
                raise RuntimeError("not for you")
            frame = frame.f_back
        return self.body(images)

def make():
    return Net()
"""


def test_a_network_that_fails_in_a_probe_is_doubtful(folder: Path) -> None:
    (folder / "evasive.py").write_text(EVASIVE)
    result = compare("evasive.py:make", "--against", DENSE)
    assert result.exit_code == 1 and "not for you" in result.stderr
    assert "an attack without its gradients failed on it" in result.stdout and "Traceback" not in result.output
