"""Shared pytest configuration: one torch thread; tests with missing requirements are deselected and listed with the reason."""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)

REASONS = {
    "needs_cifar": "the full CIFAR data sets (name their folder in HARNESS_DATA_DIR)",
    "needs_robustbench": "the extra `robustbench`",
    "needs_ray": "the extra `ray`",
    "needs_latex": "pdflatex with the packages booktabs and graphicx",
    "needs_page": "the extra `page`",
    "needs_chromium": "Chromium, its driver, Selenium, axe-core and the extra `page`",
    "needs_onnx": "the extra `onnx`",
    "needs_numba": "the extra `fast`",
    "needs_secmlt": "the extra `minimum-norm`",
    "needs_cuda": "a GPU that PyTorch can use",
}

CHROMIUM = ("chromium", "chromedriver")


def is_available(marker: str) -> bool:
    """Return whether this machine meets the requirement of `marker`."""
    if marker == "needs_cifar":
        folder = os.environ.get("HARNESS_DATA_DIR")
        return folder is not None and any(Path(folder).glob("cifar*"))
    if marker == "needs_cuda":
        import torch

        return torch.cuda.is_available()
    if marker == "needs_latex":
        return shutil.which("pdflatex") is not None
    if marker == "needs_chromium" and not all(map(shutil.which, CHROMIUM)):
        return False
    modules = {"needs_onnx": ["onnx2pytorch", "onnxscript"], "needs_page": ["jinja2", "plotly"]}
    modules |= {"needs_chromium": ["jinja2", "plotly", "selenium", "axe_core_python"]}
    return all(importlib.util.find_spec(name) is not None for name in modules.get(marker, [marker.removeprefix("needs_")]))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests whose requirements are missing, and `slow` tests unless `-m` names them."""
    absent = {marker for marker in REASONS if not is_available(marker)}
    if "slow" not in (config.option.markexpr or ""):
        absent.add("slow")
    deselected = [item for item in items if absent & {mark.name for mark in item.iter_markers()}]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in deselected]
        config.stash[DESELECTED] = {item.nodeid: min(absent & {mark.name for mark in item.iter_markers()}) for item in deselected}


DESELECTED = pytest.StashKey[dict[str, str]]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the deselected tests from a pytest-xdist worker to the controller."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(DESELECTED, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the deselected tests of a pytest-xdist worker; all workers deselect the same tests."""
    node.config.stash[DESELECTED] = getattr(node, "workeroutput", {}).get("left_out", {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the deselected tests with the reason for each."""
    for name, marker in terminalreporter.config.stash.get(DESELECTED, {}).items():
        reason = f"needs {REASONS[marker]}" if marker in REASONS else "slow: select with -m slow"
        terminalreporter.write_line(f"left out: {name} ({reason})")
