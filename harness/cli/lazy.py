"""Click groups whose commands are modules that are imported when they are called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that knows only names and one-line helps.

    Parameters
    ----------
    commands : mapping of str to str
        The help line of each command, in the order of `--help`. The command NAME is the object `command` of the module
        `harness.cli.<prefix><NAME>`.
    prefix : str
        What module names begin with.
    modules : mapping of str to str, optional
        Module names of commands whose own name cannot be one.
    moved : mapping of str to (str, str), optional
        For each former name of a command, its module and what to type in its place. Former names work, print a hint, and are not listed.
    """

    def __init__(
        self,
        name: str | None = None,
        commands: Mapping[str, str] | None = None,
        prefix: str = "",
        modules: Mapping[str, str] | None = None,
        moved: Mapping[str, tuple[str, str]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, **options)
        self.lines, self.prefix = dict(commands or {}), prefix
        self.modules, self.moved = dict(modules or {}), dict(moved or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands in the order of the help."""
        return list(self.lines)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command; None if there is no such command."""
        if cmd_name in self.moved:
            module, new_name = self.moved[cmd_name]
            click.echo(f"harness: `{cmd_name}` is now `{new_name}`; the old name will go with the next version", err=True)
        elif cmd_name in self.lines:
            module = f"{self.prefix}{self.modules.get(cmd_name, cmd_name)}"
        else:
            return None
        command: click.Command = import_module(f"harness.cli.{module}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve the command of `args`; an unknown name is an error with the nearest known one."""
        name = args[0] if args else ""
        if name and name not in self.lines and name not in self.moved and not name.startswith("-"):
            from difflib import get_close_matches

            matches = get_close_matches(name, [*self.lines, *self.moved], n=1, cutoff=0.5)
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {matches[0]!r}?" if matches else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and their lines without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lines.items()))
