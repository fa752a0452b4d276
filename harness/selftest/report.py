"""The self-test's results as rows of text."""

from __future__ import annotations

import json
from collections.abc import Sequence

from harness.evaluation import thresholds
from harness.selftest import Result

HEADINGS = ("pitfall", "planted", "kind", "result", "by", "PGD-CE, %")
# Name of the file in a store.
FILE = "selftest.json"
GOOD = ("caught", "nothing found", "not applicable")


def rows(results: Sequence[Result]) -> list[dict[str, str]]:
    """One row a case, by `HEADINGS`; the last is what plain PGD on the cross-entropy would have printed as robust accuracy."""
    found = []
    for result in results:
        case, finding = result.case, result.finding
        if finding is None:
            verdict, by = "not applicable", "needs a GPU"
        elif case.kind == "control":
            verdict, by = ("accused", finding.by) if finding.caught else ("nothing found", finding.by)
        else:
            verdict, by = ("caught", finding.by) if finding.caught else ("missed", finding.by)
        naive = "" if finding is None or finding.naive is None else f"{100 * finding.naive:.1f}"
        number = str(case.pitfall) if case.pitfall else "–"
        found.append(dict(zip(HEADINGS, (number, case.name, case.kind, verdict, by, naive), strict=True)))
    return found


def stored(results: Sequence[Result]) -> str:
    """JSON for a store: the rows, and the thresholds behind the verdicts."""
    return json.dumps({"rows": rows(results), "thresholds": thresholds.table()}, indent=1, ensure_ascii=False) + "\n"


def markdown(text: str) -> str:
    """What `stored` made, as a page of Markdown; a ValueError, KeyError or TypeError where it is something else."""
    found = json.loads(text)
    lines = [
        "# What the harness catches",
        "",
        "Faults planted by `harness selftest`, and honest models beside them. PGD-CE is the robust accuracy that PGD on the cross-entropy "
        "alone would have printed.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "| ---: | --- | --- | --- | --- | ---: |",
        *("| " + " | ".join(row[heading].replace("|", "\\|") for heading in HEADINGS) + " |" for row in found["rows"]),
        "",
        "## Thresholds",
        "",
        "| name | value | reason |",
        "| --- | ---: | --- |",
        *(f"| {item['name']} | {item['value']:.4g} | {item['reason']} |" for item in found["thresholds"]),
    ]
    return "\n".join(lines) + "\n"
