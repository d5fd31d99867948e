"""`mdetr data check`: find problems in data before training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mdetr.cli.options import JsonFile, model_names
from mdetr.cli.outputs import STDOUT, check_json_file, write_json
from mdetr.cli.printing import counted, plain, printable
from mdetr.cli.progress import progress_bar
from mdetr.errors import InvalidInputError

if TYPE_CHECKING:
    from mdetr.data.checks.check_data import CheckOptions, Report

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
_STEP = 100  # records between two updates of the progress bar


def check(
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE-or-STORE...", help="JSON Lines files (.jsonl) and stores, checked together."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Model to be trained, whose tokenizer, text length and number of queries set limits.",
            autocompletion=model_names,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder that the image paths are relative to; by default the folder of the data."),
    ] = None,
    read_images: Annotated[
        bool,
        typer.Option(
            "--read-images", help="Decode every image, and find copies of images under other names."
        ),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 for warnings too.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Find problems in training data: wrong boxes, cut words, missing images, leaks between splits, and more.

    Exits with code 1 if there are errors. Give the training and the validation
    data together, to find images that are in both.

    Example: mdetr data check stores/train stores/val --model clevr-tiny
    """
    # Check the arguments
    check_json_file(json_file)
    for path in data:
        if not path.exists():
            raise InvalidInputError(f"There is no file or store {path}; check the path.")
    if images is not None and not images.is_dir():
        raise InvalidInputError(f"There is no folder {images} with images.")

    # Check the data
    from mdetr.data.checks.check_data import CheckedData, check_data

    chosen = [CheckedData(path, images) for path in {path.resolve(): path for path in data}.values()]
    total = sum(len(each.store) if each.store is not None else 0 for each in chosen)
    is_known = all(each.store is not None for each in chosen)
    options = _options(model, read_images)
    with progress_bar() as progress:
        bar = progress.add_task("Checking", total=total if is_known else None)
        report = check_data(
            chosen,
            options,
            lambda done: progress.update(bar, completed=done) if done % _STEP == 0 else None,
        )

    # Report
    _print(report, Console(stderr=json_file == STDOUT))
    if json_file is not None:
        write_json(json_file, report.to_dict())
    has_warnings = any(finding.kind.severity == "warning" for finding in report.findings)
    if report.has_errors or (strict and has_warnings):
        raise typer.Exit(1)


def _options(model: str | None, read_images: bool) -> CheckOptions:
    """Make the options of the checks from the model to be trained, whose limits count."""
    from mdetr.data.checks.check_data import CheckOptions

    if model is None:
        return CheckOptions(read_images=read_images)
    from mdetr.checkpoints.loading import load_processor

    processor, config = load_processor(model)
    return CheckOptions(
        num_queries=config.num_queries,
        max_tokens=processor.max_text_tokens,
        tokenizer=lambda: processor.tokenizer,
        read_images=read_images,
    )


def _print(report: Report, console: Console) -> None:
    """Print a table of the problems, then examples and advice for each."""
    paths = ", ".join(report.paths)
    if not report.findings:
        line = f"No problems in {counted(report.records, 'record')} of {paths}."
        console.print(plain(line), soft_wrap=True)
        return

    # Table of all kinds of problems
    refused = f", of which {report.refused:,} cannot be used" if report.refused else ""
    total = counted(report.records + report.refused, "record")
    console.print(plain(f"{total} of {paths}{refused}"), soft_wrap=True)
    table = Table("severity", "count", "problem")
    table.columns[1].justify = "right"
    for finding in report.findings:
        severity = Text(finding.kind.severity, _STYLES[finding.kind.severity])
        table.add_row(severity, f"{finding.count:,}", plain(finding.kind.title))
    console.print(table)

    # Examples and advice for each kind
    for finding in report.findings:
        console.print()
        title = printable(finding.kind.title)
        console.print(Text(f"{title[0].upper()}{title[1:]}: {finding.count:,}", "bold"))
        for example in finding.examples:
            record = f", record {example.record}" if example.record else ""
            start = "" if example.where in example.what and not record else f"{example.where}{record}: "
            console.print(plain(f"  {start}{example.what}"), soft_wrap=True)
        if finding.count > len(finding.examples) > 1:
            console.print(f"  ... and {finding.count - len(finding.examples):,} more.")
        console.print(plain(f"  {finding.kind.advice}"), soft_wrap=True)
