"""Figure of the mean accuracy under corruptions against bytes, with the Pareto front."""

from __future__ import annotations

from harness.reporting.corruptions import MEAN
from harness.reporting.figures import Drawn, Material
from harness.reporting.figures.accuracy_against_bytes import accuracy_against_bytes
from harness.reporting.frames import ENDS
from harness.reporting.names import images
from model_zoo.files import file_name


def figures(material: Material) -> Drawn:
    """Yield one figure per data set with enough models of known size."""
    frame = material.corrupted
    if frame.empty or not {"bytes", MEAN} <= set(frame):
        return
    for dataset, part in frame.groupby("dataset"):
        rows = part.rename(columns={f"{MEAN}{end}": f"worst{end}" for end in ENDS}).assign(headline="worst case")
        if rows.dropna(subset=["worst", "bytes"])["model"].nunique() < material.fewest_models:
            continue
        conditions = " or ".join(map(str, sorted(rows["conditions"].unique())))
        subtitle = f"{dataset}, {images(rows)}; mean of {conditions} corruptions and severities (own frost), without an attacker"
        figure = accuracy_against_bytes(rows, subtitle, "mean accuracy under corruptions", "Best under corruptions")
        yield file_name(f"corruptions-bytes_{dataset}"), figure
