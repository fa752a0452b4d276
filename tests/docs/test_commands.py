"""Commands in the documentation exist, with the options that are named there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from harness.cli.main import main

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
_INDENTED = re.compile(r"^ {4}(?:[A-Z_]+=\S+ )*harness .*$", re.M)
_QUOTED = re.compile(r"`(harness [^`]+)`")


def commands(text: str) -> list[str]:
    """Return the command lines of a document: indented lines, with their continuation, and text between backticks."""
    text = text.replace("\\\n", " ")
    lines = [line.strip() for line in _INDENTED.findall(text)] + _QUOTED.findall(text)
    return [re.sub(r"^(?:[A-Z_]+=\S+ )+", "", re.sub(r"\s+#.*$", "", line)) for line in lines]


def alternatives(words: list[str]) -> list[list[str]]:
    """Expand "store merge|verify" to one command line per alternative."""
    lines: list[list[str]] = [[]]
    for word in words:
        choices = [word] if word.startswith("-") else word.split("|")
        lines = [[*line, choice] for line in lines for choice in choices]
    return lines


def check(words: list[str]) -> str | None:
    """Return what is wrong with a command line: a command or an option that does not exist."""
    command: click.Command = main
    context = click.Context(main)
    options = {option for param in main.params for option in (*param.opts, *param.secondary_opts)}
    for word in words:
        if word.startswith("-"):
            name = word.split("=")[0]
            if name not in options | {"-h", "--help"}:
                return f"no option {name}"
        elif isinstance(command, click.Group) and not word.isupper():
            subcommand = command.get_command(context, word)
            if subcommand is None:
                return f"no command {word}"
            command, context = subcommand, click.Context(subcommand, parent=context)
            options |= {option for param in subcommand.params for option in (*param.opts, *param.secondary_opts)}
    return None


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_of_a_document_exist(path: Path) -> None:
    problems = []
    for line in commands(path.read_text()):
        plain = re.sub(r"[\[\]]", " ", line.replace("...", " "))
        problems += [f"{line}: {problem}" for words in alternatives(shlex.split(plain)[1:]) if (problem := check(words)) is not None]
    assert not problems


def test_wrong_commands_are_noticed() -> None:
    assert check(["run", "--suite", "quick"]) is None
    assert check(["ran"]) == "no command ran"
    assert check(["run", "--sweet", "quick"]) == "no option --sweet"
    assert commands("x\n\n    A=b harness run --suite quick   # a comment\n") == ["harness run --suite quick"]
    assert len(commands((ROOT / "README.md").read_text())) > 20
