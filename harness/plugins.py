"""Registries of the benchmark: attacks, corruptions, data sets, suites, executors, tables, figures and scales.

See `model_zoo.plugins` for how entries are added: by a module or TOML file of this project, an entry point, or a plug-in folder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from model_zoo.plugins import Registry

if TYPE_CHECKING:
    from harness.attacks.common import Adapter
    from harness.attacks.spec import AttackSpec
    from harness.corruptions.common import Corruption
    from harness.datasets.base import Source
    from harness.reporting.tables import TableSpec
    from harness.reproduction.scale import Scale
    from harness.reproduction.specification import PaperTable
    from harness.runner.executors import Executor
    from harness.runner.suite import Suite

ATTACKS: Registry[AttackSpec] = Registry(
    "attack",
    "attacks",
    "harness.attacks.spec:AttackSpec",
    "harness ls attacks",
    files="harness.attacks:specs",
    read="harness.attacks.spec:load",
)
ATTACK_ADAPTERS: Registry[Adapter[Any]] = Registry(
    "attack adapter",
    "attack_adapters",
    "harness.attacks.common:Adapter",
    "harness ls attacks",
    packages=("harness.attacks.packages", "harness.attacks.native"),
    attribute="ADAPTER",
)
CORRUPTIONS: Registry[Corruption] = Registry(
    "corruption",
    "corruptions",
    "harness.corruptions.common:Corruption",
    "harness ls corruptions",
    packages=("harness.corruptions",),
    attribute="CORRUPTIONS",
)
DATASETS: Registry[Source] = Registry(
    "dataset", "datasets", "harness.datasets.base:Source", "harness ls datasets", packages=("harness.datasets",), attribute="SOURCES"
)
SUITES: Registry[Suite] = Registry(
    "suite",
    "suites",
    "harness.runner.suite:Suite",
    "harness ls suites",
    files="harness.runner:suites",
    read="harness.runner.suite:read_suite",
)
EXECUTORS: Registry[Executor] = Registry(
    "executor", "executors", "callable", "harness run --help", packages=("harness.runner.executors",), attribute="run", by_module=True
)
TABLES: Registry[TableSpec] = Registry(
    "table",
    "tables",
    "harness.reporting.tables:TableSpec",
    "harness ls tables",
    files="harness.reporting:tables",
    read="harness.reporting.tables:read_table",
)
FIGURES: Registry[Callable[..., Any]] = Registry(
    "figure", "figures", "callable", "harness ls figures", packages=("harness.reporting.figures",), attribute="figures", by_module=True
)
PAPER_TABLES: Registry[PaperTable] = Registry(
    "table of a paper",
    "paper_tables",
    "harness.reproduction.specification:PaperTable",
    "harness reproduce",
    files="harness.reproduction:tables",
    read="harness.reproduction.specification:read",
)
SCALES: Registry[Scale] = Registry(
    "scale",
    "scales",
    "harness.reproduction.scale:Scale",
    "harness reproduce --help",
    files="harness.reproduction:scales",
    read="harness.reproduction.scale:read_scale",
)
