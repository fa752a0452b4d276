"""Results of the self-test as rows of text, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence

from harness.evaluation import thresholds
from harness.selftest import Result

HEADINGS = ("pitfall", "planted", "kind", "result", "by", "PGD-CE, %")
# Name of the results file in a store.
FILE = "selftest.json"
PASSING = ("caught", "nothing found", "not applicable")


def rows(results: Sequence[Result]) -> list[dict[str, str]]:
    """Return one row per case, keyed by `HEADINGS`; the last column is the robust accuracy, in %, that plain PGD-CE would have printed."""
    table_rows = []
    for result in results:
        case, finding = result.case, result.finding
        if finding is None:
            verdict, by = "not applicable", "needs a GPU"
        elif case.kind == "control":
            verdict, by = ("accused", finding.by) if finding.caught else ("nothing found", finding.by)
        else:
            verdict, by = ("caught", finding.by) if finding.caught else ("missed", finding.by)
        naive = "" if finding is None or finding.naive is None else f"{100 * finding.naive:.1f}"
        pitfall = str(case.pitfall) if case.pitfall else "–"
        table_rows.append(dict(zip(HEADINGS, (pitfall, case.name, case.kind, verdict, by, naive), strict=True)))
    return table_rows


def stored(results: Sequence[Result]) -> str:
    """Return JSON for a store: the rows, and the thresholds behind the verdicts."""
    return json.dumps({"rows": rows(results), "thresholds": thresholds.table()}, indent=1, ensure_ascii=False) + "\n"


def markdown(text: str) -> str:
    """Return the JSON text of `stored` as a page of Markdown; ValueError, KeyError or TypeError for any other text."""
    content = json.loads(text)
    lines = [
        "# What the harness catches",
        "",
        "Faults planted by `harness selftest`, and honest models for comparison. PGD-CE is the robust accuracy that PGD on cross-entropy "
        "alone would have printed.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "| ---: | --- | --- | --- | --- | ---: |",
        *("| " + " | ".join(row[heading].replace("|", "\\|") for heading in HEADINGS) + " |" for row in content["rows"]),
        "",
        "## Thresholds",
        "",
        "| name | value | reason |",
        "| --- | ---: | --- |",
        *(f"| {item['name']} | {item['value']:.4g} | {item['reason']} |" for item in content["thresholds"]),
    ]
    return "\n".join(lines) + "\n"
