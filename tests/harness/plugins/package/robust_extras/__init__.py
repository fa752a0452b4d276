"""A package that plugs in attacks, data sets, suites and tables through entry points."""

import importlib.util
from pathlib import Path

DATA = Path(__file__).parent / "data"


def _module(path: Path):
    spec = importlib.util.spec_from_file_location(f"robust_extras_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ATTACKS, SUITES, TABLES = DATA / "attacks", DATA / "suites", DATA / "tables"
SHIFT = _module(DATA / "attack_adapters" / "shift.py").ADAPTER


def __getattr__(name: str):
    if name == "SOURCES":
        return _module(DATA / "datasets" / "inverted.py").SOURCES
    raise AttributeError(name)
