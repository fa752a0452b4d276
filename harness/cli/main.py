"""The command `harness`: names and one-line helps of its commands, whose modules are imported when they run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from harness.cli.lazy import LazyGroup
from model_zoo.errors import UserError
from model_zoo.plugins import add_plugin_folder, plugin_folders

COMMANDS = {
    "ls": "List models, datasets, attacks, suites, tables, recipes, families and others.",
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
    "store": "Verify, merge, correct or pack a folder of outcomes.",
}
MOVED = {name: (f"store_{name}", f"harness store {name}") for name in ("merge", "invalidate", "verify")}


class Main(LazyGroup):
    """Command group that reports errors which the user can correct as one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; exit with the error's status on a UserError, and with 1 if the output pipe is closed."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"harness: {error}", err=True)
            ctx.exit(error.exit_code)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(1)


@click.group(
    cls=Main, commands=COMMANDS, modules={"import": "import_"}, moved=MOVED, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="robust-binary-harness", prog_name="harness")
@click.option(
    "--plugins",
    "plugins",
    multiple=True,
    metavar="DIR",
    help="Folder with attacks, models, datasets, ... of your own (docs/extending.md); may be repeated.  [env: HARNESS_PLUGINS]",
)
def main(plugins: tuple[str, ...]) -> None:
    """Benchmark the adversarial robustness of compact networks.

    \b
    Examples:
      harness run --suite quick              five small models, in minutes
      harness ls models                      what is in the registry
      harness run --model ID --attack pgd --n 200
      harness report                         tables and figures from ./results
    """
    # Spinning threads make parallel processes on one machine many times slower; torch reads this variable on import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for folder in plugins:
        add_plugin_folder(Path(folder))
    plugin_folders()


if __name__ == "__main__":
    main()
