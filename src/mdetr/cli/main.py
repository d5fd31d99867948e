"""The command `mdetr`: its subcommands, and errors as one plain sentence.

The modules of the commands import torch and other slow libraries inside the functions that need them, so that
help, completion and errors in the arguments take no time.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import nullcontext
from io import TextIOWrapper
from typing import Annotated

import typer

from mdetr.cli.answer import answer
from mdetr.cli.app import app as page
from mdetr.cli.convert import convert
from mdetr.cli.data_check import check
from mdetr.cli.data_combine import combine
from mdetr.cli.data_import import import_data
from mdetr.cli.data_stats import stats
from mdetr.cli.data_view import view
from mdetr.cli.detect import detect
from mdetr.cli.download import download
from mdetr.cli.evaluate import evaluate
from mdetr.cli.export import export
from mdetr.cli.ground import ground
from mdetr.cli.label import label
from mdetr.cli.models import models
from mdetr.cli.printing import printable
from mdetr.cli.recipes import recipes
from mdetr.cli.refer import refer
from mdetr.cli.segment import segment
from mdetr.cli.serve import serve
from mdetr.cli.synthesize import synthesize
from mdetr.cli.train import train
from mdetr.errors import MdetrError
from mdetr.files import full_disk
from mdetr.logs import shown_notices

_LONG_NAME = re.compile(r"(\S{80})\S{120,}(\S{40})")  # of which a message shows the ends

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
data = typer.Typer(no_args_is_help=True)
synthesis = typer.Typer(no_args_is_help=True)
app.command()(ground)
app.command()(refer)
app.command()(answer)
app.command()(detect)
app.command()(segment)
app.command()(label)
app.command("app")(page)
app.command()(serve)
app.command()(train)
app.command()(evaluate)
app.command()(convert)
app.command()(export)
app.command()(models)
app.command()(recipes)
app.command()(download)
app.add_typer(data, name="data")
data.command("import")(import_data)
data.command("check")(check)
data.command("combine")(combine)
data.command("stats")(stats)
data.command("view")(view)
data.add_typer(synthesis, name="synthesize")
synthesis.command("clevr")(synthesize)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print how a model runs: device, number type, threads.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
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
    """Import, check, combine, summarize and draw data for training and evaluation.

    Example: mdetr data import jsonl mine.jsonl stores/mine
    """


@synthesis.callback()
def _synthesis() -> None:
    """Generate data on this machine, without a download.

    Example: mdetr data synthesize clevr shapes --scenes 100
    """


def main(arguments: list[str] | None = None) -> int:
    """Run the command: 0 done, 1 the job failed, 2 the call was wrong, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug, verbose = "--debug" in arguments, "--verbose" in arguments
    # Accepted anywhere, since users add them at the end of the line when they run it again.
    arguments = [_expand_home(argument) for argument in arguments if argument not in ("--debug", "--verbose")]
    _quiet()
    try:
        with shown_notices() if verbose else nullcontext():
            result = app(arguments, prog_name="mdetr", standalone_mode=False)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:  # the reader of the output has stopped, as `head` does
        return 1
    except Exception as error:
        if debug:
            raise
        return _explain(error)
    return result if isinstance(result, int) else 0


def run() -> None:
    """Run the command as a program, which ends with the exit code of `main`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name may contain characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    code = main()
    try:
        sys.stdout.flush()
    except OSError:  # the reader has stopped, or the disk is full; Python would try again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _expand_home(argument: str) -> str:
    """Replace the ~ of an option such as --output=~/found.png, which shells replace only after a space."""
    name, equals, value = argument.partition("=")
    is_option = name.startswith("--") and equals == "="
    return f"{name}={os.path.expanduser(value)}" if is_option and value.startswith("~") else argument


def _explain(error: Exception) -> int:
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # a wrong call: the message of Click
        error.show()
        return int(error.exit_code)
    message = printable(_LONG_NAME.sub(r"\1...\2", " ".join(str(error).split())))
    reason = full_disk(error)
    if not isinstance(error, MdetrError) and reason is not None:
        message = f"A file could not be written ({reason}): make room on the disk, or choose another."
    elif isinstance(error, ModuleNotFoundError) and not isinstance(error, MdetrError):
        message = f"This needs the package {error.name}; install all that mdetr needs: `pip install mdetr`."
    elif isinstance(error, OSError) and error.filename is not None and not isinstance(error, MdetrError):
        # A path that cannot be used is no fault of the program, wherever it is found
        place = printable(_LONG_NAME.sub(r"\1...\2", str(error.filename)))
        reason = error.strerror or "unknown reason"
        message = f"{place} cannot be used: {reason}; choose another path."
    elif not isinstance(error, MdetrError):
        message = f"Unexpected {type(error).__name__}: {message} (run again with --debug to see where)"
    typer.echo(f"mdetr: {message}", err=True)
    return 1


def _quiet() -> None:
    """Turn off the progress bars and notices of transformers, whether it is imported yet or not."""
    if "transformers" not in sys.modules:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        return
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


if __name__ == "__main__":
    run()
