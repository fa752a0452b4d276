"""Door `tables`: tables of papers: TOML files and their CSV files of published values, which `harness reproduce` takes by path."""

from __future__ import annotations

import copy
import csv
import io
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import tomli_w

from harness.reproduction.specification import PaperTable, get
from tests.fuzz.frame import Door, check_accepted, check_refused, command, refusal
from tests.fuzz.values import TEXTS, damaged, nested, of_another_type, places, set_at, value_at

KINDS = ["value", "type", "type", "type", "missing", "unknown", "name", "setting", "nested", "damaged", "published", "published", "csv"]
VALUES = {
    ("title",): ["", "ü", "a" * 1000, "[bold]x[/bold]", "$x$", "\t"],
    ("caption",): ["", "100 %", "$a_b$", "\\frac"],
    ("notes",): [[], ["a", "b"], ["$"]],
    ("rows", 0, "labels"): [["x"], ["[red]"], ["$0.5$"], [""]],
}
PERCENTS = ["nan", "-1", "101", "1e400", "", "x", "50 %", "inf", "1e1", "0x10", "٣", "1_0", " 5", "+5", "5e-1"]
# Settings of a model that no recipe can express.
SETTINGS = [
    {"radius": "nan"},
    {"radius": "9/1"},
    {"radius": "1e999999999"},
    {"radius": 8},
    {"keep_ratio": 0.0},
    {"keep_ratio": 1.5},
    {"keep_ratio": float("nan")},
    {"p": -1.0},
    {"method": "x"},
    {"weights": 1},
    {"seed": -1},
    {"seed": "1"},
    {"colour": "red"},
    {"strategy": "none"},
    {"score_scale": float("inf")},
    {"last_bn": 1},
]
COLUMNS = ["table", "row", "column", "measure", "percent", "page", "note"]


@cache
def _table() -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return a table of two rows and two columns, and its published values."""
    folder = files("harness.reproduction")
    fields = tomllib.loads((folder / "tables" / "liu2022-1.toml").read_text())
    fields["rows"], fields["columns"] = fields["rows"][:2], fields["columns"][:2]
    fields |= {"published": "mine.csv", "notes": ["A note."], "cells": []}
    names = {(row["name"], column["name"]) for row in fields["rows"] for column in fields["columns"]}
    with (folder / "published" / "liu2022.csv").open(encoding="utf-8", newline="") as lines:
        values = [row for row in csv.DictReader(lines) if row["table"] == "1" and (row["row"], row["column"]) in names]
    return fields, values


def case(random: Random, folder: Path) -> None:
    """Make one table, read it, and print it."""
    path, file = folder / "mine.toml", folder / "mine.csv"
    kind = random.choice(KINDS)
    fields, values = copy.deepcopy(_table())
    text, place, name = None, (), path.name
    if kind == "value":
        place = random.choice(sorted(VALUES, key=str))
        set_at(fields, place, random.choice(VALUES[place]))
    elif kind == "type":
        # A name is anything, and an empty list of claims has no type.
        options = [place for place in places(fields) if place not in (("number",), ("cells",), ("claims",), ("notes",))]
        place = random.choice(options)
        set_at(fields, place, of_another_type(random, value_at(fields, place)))
    elif kind == "missing":
        del fields[random.choice(["paper", "number", "title", "caption", "source"])]
    elif kind == "unknown":
        random.choice([fields, fields["rows"][0], fields["claims"][0], fields["settings"]])["colour"] = "red"
    elif kind == "name":
        changes = [
            {"published": random.choice(["absent.csv", "../mine.csv", ".", "a\0", ""])},
            {"computed": "nothing"},
            {"measure": "speed"},
            {"best": "diagonal"},
            {"stub": []},
            {"cells": [{"rows": ["absent"], "columns": []}]},
            {"claims": [{"kind": "higher", "text": "x", "pairs": [["r = 0.5", "absent"]]}]},
            {"claims": [{"kind": "best-row-follows", "text": "x", "row_setting": "colour", "column_setting": "__class__"}]},
            {"claims": [{"kind": "equivalent", "text": "x", "columns": ["r = 0.5", "r = 0.8"], "rows": [], "margin": float("nan")}]},
        ]
        fields |= random.choice(changes)
    elif kind == "setting":
        # Those of a column are added last.
        fields["columns"][0]["settings"].update(random.choice(SETTINGS))
    elif kind == "nested":
        text = f"deep = {nested(random)}\n" if random.random() < 0.5 else f"deep = {nested(random, '{a=', '}')}\n"
    elif kind == "published":
        row, column = random.choice(values), random.choice(["row", "column", "measure", "percent"])
        row[column] = random.choice(PERCENTS if column == "percent" else [text for text in TEXTS if text and "\n" not in text])
        name = file.name
    content = tomli_w.dumps(fields).encode() if text is None else text.encode()
    path.write_bytes(damaged(random, content) if kind == "damaged" else content)
    file.write_bytes(_csv(random, values, kind == "csv"))
    name = "mine." if kind in ("csv", "damaged") else name

    read: list[PaperTable] = []
    error = refusal(lambda: read.append(get(str(path))), name)
    if kind == "value":
        assert error is None, f"refused: {error}"
        actual = value_at(read[0].model_dump(), place)
        assert (list(actual) if isinstance(actual, tuple) else actual) == value_at(fields, place), "read as another value"
        published = {(row["row"], row["column"]): row["percent"] for row in values}
        assert {at: cell.published.percent for at, cell in read[0].grid.items()} == published, "read as other numbers"
    elif kind not in ("damaged", "csv"):
        assert error is not None, f"accepted: {kind} {place} {value_at(fields, place) if place else fields!r}"
    if error is not None and random.random() < 0.02:
        check_refused(command("reproduce", path, "--store", folder / "store"), "mine.")
    elif error is None and random.random() < 0.1:
        check_accepted(command("reproduce", path, "--store", folder / "store"))
    assert not (folder / "store").exists()


def _csv(random: Random, values: list[dict[str, str]], is_damaged: bool) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator=random.choice(["\n", "\r\n"]))
    writer.writeheader()
    writer.writerows(values)
    content = buffer.getvalue().encode()
    if not is_damaged:
        return content
    faults = [
        damaged(random, content),
        content.replace(b"percent", b"share", 1),
        content.replace(b"table,", b"table,table,", 1),
        content + content.splitlines(keepends=True)[1],
        content + b"1,only three,cells\n",
        content + b'1,"' + b"a" * 200_000 + b'",,,,,\n',
        content.replace(b"autoattack", b"auto\0attack", 1),
        content.decode().encode("utf-16"),
        b"<!DOCTYPE html><html></html>",
        b"",
    ]
    return random.choice(faults)


DOOR = Door("tables", full=2_000, ci=30, case=case)
