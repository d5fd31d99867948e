"""The command `mdetr`: its subcommands, and errors as one plain sentence.

The modules of the commands import torch and all that is slow to load inside the functions that need it, so
that help, completion and a wrong call are answered at once.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from mdetr.cli.answer import answer
from mdetr.cli.convert import convert
from mdetr.cli.data_check import check
from mdetr.cli.data_combine import combine
from mdetr.cli.data_import import import_data
from mdetr.cli.data_stats import stats
from mdetr.cli.data_view import view
from mdetr.cli.detect import detect
from mdetr.cli.download import download
from mdetr.cli.evaluate import evaluate
from mdetr.cli.ground import ground
from mdetr.cli.models import models
from mdetr.cli.printing import printable
from mdetr.cli.recipes import recipes
from mdetr.cli.refer import refer
from mdetr.cli.segment import segment
from mdetr.cli.synthesize import synthesize
from mdetr.cli.train import train
from mdetr.errors import MdetrError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
data = typer.Typer(no_args_is_help=True)
worlds = typer.Typer(no_args_is_help=True)
app.command()(ground)
app.command()(refer)
app.command()(answer)
app.command()(detect)
app.command()(segment)
app.command()(train)
app.command()(evaluate)
app.command()(convert)
app.command()(models)
app.command()(recipes)
app.command()(download)
app.add_typer(data, name="data")
data.command("import")(import_data)
data.command("check")(check)
data.command("combine")(combine)
data.command("stats")(stats)
data.command("view")(view)
data.add_typer(worlds, name="synthesize")
worlds.command("clevr")(synthesize)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Find in an image the things that a text mentions.

    Example: mdetr ground --example --output found.png
    """
    if version:
        from mdetr import __version__

        typer.echo(__version__)
        raise typer.Exit


@data.callback()
def _data() -> None:
    """Import, check, combine, count and draw data to train and evaluate on.

    Example: mdetr data import jsonl mine.jsonl stores/mine
    """


@worlds.callback()
def _worlds() -> None:
    """Draw data on this machine, without any download.

    Example: mdetr data synthesize clevr shapes --scenes 100
    """


def main(arguments: list[str] | None = None) -> int:
    """Run the command: 0 done, 1 the job failed, 2 the call was wrong, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    # Accepted anywhere, since it is added after a failure, at the end of the line.
    arguments = [argument for argument in arguments if argument != "--debug"]
    _quiet()
    try:
        result = app(arguments, prog_name="mdetr", standalone_mode=False)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:  # who reads the output has seen enough, as `head` does
        return 1
    except Exception as error:
        if debug:
            raise
        return _explain(error)
    return result if isinstance(result, int) else 0


def run() -> None:
    """Run the command as a program, which ends with the exit code of `main`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name may hold what the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    code = main()
    try:
        sys.stdout.flush()
    except OSError:  # nobody reads any more, or the disk is full; Python would try once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _explain(error: Exception) -> int:
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # a wrong call: Click's own words
        error.show()
        return int(error.exit_code)
    message = printable(" ".join(str(error).split()))
    if not isinstance(error, MdetrError):
        message = f"Unexpected {type(error).__name__}: {message} (run again with --debug to see where)"
    typer.echo(f"mdetr: {message}", err=True)
    return 1


def _quiet() -> None:
    """Keep transformers' progress bars and notices out of the output, whether it is loaded yet or not."""
    if "transformers" not in sys.modules:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        return
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


if __name__ == "__main__":
    run()
