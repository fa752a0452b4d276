"""The command `harness`. Only names and one-line helps are known here; a command's module is imported when it runs."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from model_zoo.errors import UserError

# Command, and the line `harness --help` shows for it. The command's function is `command` in harness/cli/<name>.py.
COMMANDS = {
    "ls": "List models, datasets, attacks, suites, tables, recipes or formats.",
    "show": "Show one model: record, footprint, results.",
    "run": "Attack models and store what happened to every image.",
    "plan": "Say what a run would do and how long it would take.",
    "status": "Say how far a run is, from any machine that sees its store.",
    "compare": "Say whether a model, your own or a registered one, is better than others.",
    "diagnose": "Say whether a model's robustness is real: ok, suspicious or masked.",
    "report": "Rebuild tables and figures from stored outcomes.",
    "train": "Train a model from a recipe.",
    "selftest": "Plant every known fault and see whether it is caught.",
    "footprint": "Say what models cost: bytes by convention, activations, operations.",
    "export": "Write a model as one packed file.",
    "import": "Take up somebody else's checkpoint as a model.",
    "add": "Make a record of a model of your own.",
    "merge": "Take up other stores' outcomes.",
    "invalidate": "Take outcomes back, with a reason.",
    "verify": "Hash everything in a store again.",
}
# Where the module cannot have the command's name.
MODULES = {"import": "import_"}


class LazyGroup(click.Group):
    """A group whose commands are modules of this folder."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table above."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command that exists."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"harness.cli.{MODULES.get(cmd_name, cmd_name)}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what the user can put right becomes one line and an exit status."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"harness: {error}", err=True)
            ctx.exit(error.exit_code)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(1)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="robust-binary-harness", prog_name="harness")
def main() -> None:
    """Benchmark the adversarial robustness of compact networks.

    \b
    Examples:
      harness run --suite quick              five small models, in minutes
      harness ls models                      what is in the registry
      harness run --model ID --attack pgd --n 200
      harness report                         tables and figures from ./results
    """
    # Spinning threads make two processes on one machine many times slower; torch reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


if __name__ == "__main__":
    main()
