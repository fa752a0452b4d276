"""The self-test's results as rows of text."""

from __future__ import annotations

from collections.abc import Sequence

from harness.evaluation import thresholds
from harness.selftest import Result

HEADINGS = ("pitfall", "planted", "kind", "result", "by", "PGD-CE, %")
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


def markdown(results: Sequence[Result]) -> str:
    """The table with the thresholds behind the verdicts, as Markdown."""
    lines = [
        "# What the harness catches",
        "",
        "Faults planted by `harness selftest`, and honest models beside them. PGD-CE is the robust accuracy that PGD on the cross-entropy "
        "alone would have printed.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "| ---: | --- | --- | --- | --- | ---: |",
        *("| " + " | ".join(value.replace("|", "\\|") for value in row.values()) + " |" for row in rows(results)),
        "",
        "## Thresholds",
        "",
        "| name | value | reason |",
        "| --- | ---: | --- |",
        *(f"| {item['name']} | {item['value']:.4g} | {item['reason']} |" for item in thresholds.table()),
    ]
    return "\n".join(lines) + "\n"
