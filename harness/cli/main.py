"""The command `harness`: names and one-line helps of its commands, whose modules are imported when they run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from click.exceptions import Exit, NoArgsIsHelpError

from harness.cli.lazy import LazyGroup
from harness.cli.surroundings import drop_output, flush_output, open_streams, system_message, termination_interrupts
from model_zoo.errors import LONGEST, UserError, one_line
from model_zoo.plugin_folders import add_plugin_folder, plugin_folders

COMMANDS = {
    "ls": "List models, datasets, attacks, suites, recipes and so on.",
    "show": "Show one model: record, footprint, results.",
    "run": "Attack models and store the outcome of every image.",
    "plan": "Show what a run would do and how long it would take.",
    "status": "Show the progress of a run.",
    "compare": "Test whether a model is more robust than others.",
    "diagnose": "Check whether a model's robustness is real.",
    "report": "Write tables and figures from stored outcomes.",
    "reproduce": "Show the paper's tables, published and measured.",
    "train": "Train a model from a recipe.",
    "selftest": "Check that every known fault is caught.",
    "footprint": "Show the bytes and operations of models.",
    "export": "Write a model as one packed file.",
    "import": "Convert a checkpoint of other authors.",
    "add": "Write a record for a model of your own.",
    "store": "Verify, merge, correct or pack stored outcomes.",
}
MOVED = {name: (f"store_{name}", f"harness store {name}") for name in ("merge", "invalidate", "verify")}


class Main(LazyGroup):
    """Command group that reports errors of the user, of the system and of memory as one line and an exit status."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Parse the command line and run the command; exit with 1 if the system refuses a file, the output or memory."""
        try:
            open_streams()
            with termination_interrupts():
                try:
                    return super().main(*args, **options)
                finally:
                    flush_output()
        except (OSError, MemoryError, RuntimeError, ImportError) as error:
            message = system_message(error)
            if message is None:
                raise
            drop_output()
            with suppress(OSError):
                click.echo(one_line(f"harness: {message}", LONGEST), err=True)
            sys.exit(1)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Parse the options before the command; exit with the error's status if they are wrong."""
        with _errors_in_one_line():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; exit with the error's status if its options or their values are wrong, and on a UserError."""
        with _errors_in_one_line():
            return super().invoke(ctx)


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Print a UserError, or what click reports about the command line, as one line, and exit with the error's status."""
    try:
        yield
    except UserError as error:
        click.echo(one_line(f"harness: {error}", LONGEST), err=True)
        raise Exit(error.exit_code) from None
    except NoArgsIsHelpError:
        raise
    except click.ClickException as error:
        command = getattr(error, "ctx", None)
        hint = f" (`{command.command_path} --help` shows how)" if command is not None else ""
        click.echo(one_line(f"harness: {error.format_message()}{hint}", LONGEST), err=True)
        raise Exit(error.exit_code) from None


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
