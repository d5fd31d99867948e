"""`mdetr evaluate`: a recipe and a model in, the scores of the recipe's tasks out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdetr.tasks.submission import write_submission

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mdetr.inference.grounder import Mdetr
    from mdetr.training.evaluation import Validation


def evaluate(
    recipe: Annotated[Path, typer.Argument(help="The recipe whose validation stores are scored.")],
    model: Annotated[str, typer.Option(help="A bundled name, a folder or a Hub id.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Replace a value of the recipe: key=value, such as run.workers=0."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the scores to this file too.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The folder for tables and pictures; runs/ and RECIPE-evaluation if left out."),
    ] = None,
    worst: Annotated[
        int, typer.Option(min=0, help="How many of the worst examples of each store are drawn.")
    ] = 12,
    submission: Annotated[
        Path | None,
        typer.Option(help="Write the answers for a test server: .json for GQA, .txt for CLEVR."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images a batch, all their texts share them; in detection, names.")
    ] = 16,
) -> None:
    """Score a model on the validation stores of a recipe, and keep what it says of each example.

    Example: mdetr evaluate recipes/clevr-tiny.yaml --model clevr-tiny --json scores.json
    """
    from accelerate import Accelerator
    from rich.console import Console
    from rich.table import Table

    from mdetr.inference.grounder import Mdetr
    from mdetr.training.evaluation import Validation
    from mdetr.training.pictures import draw_worst
    from mdetr.training.recipe import check_files, load_recipe

    settings = load_recipe(recipe, changes or [])
    check_files(settings, training=False)
    folder = output or Path("runs") / f"{recipe.stem}-evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator()
    loaded = Mdetr.from_pretrained(model, device=str(accelerator.device))
    scores: dict[str, dict[str, float]] = {}
    for name, entry in settings.data.validation.items():
        validation = Validation.open(entry, loaded.processor)
        scores[name] = _score(loaded, validation, name, folder, accelerator, batch_size)
        if accelerator.is_main_process and worst:
            draw_worst(
                validation.dataset.store, folder / f"{name}.parquet", worst, folder / f"{name}-worst.png"
            )
    if not accelerator.is_main_process:
        return
    if submission is not None:
        write_submission(_answers([folder / f"{name}.parquet" for name in scores]), submission)
    table = Table("store", "figure", "value")
    for name, figures in scores.items():
        for figure, value in figures.items():
            table.add_row(name, figure, f"{value:.4f}")
    Console().print(table)
    typer.echo(f"Each example's prediction, truth and score, and pictures of the worst, are in {folder}.")
    if json_file is not None:
        json_file.write_text(json.dumps(scores, indent=1))


def _score(
    loaded: Mdetr, validation: Validation, name: str, folder: Path, accelerator: Accelerator, batch_size: int
) -> dict[str, float]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mdetr.training.evaluation import evaluate as score
    from mdetr.training.judgements import judgement_table

    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()),
        TextColumn("{task.fields[score]}"),
    )
    with (
        judgement_table(folder / f"{name}.parquet", accelerator) as table,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        bar = progress.add_task(name, total=validation.num_images, score="")

        def advance(done: int) -> None:
            running = f"score so far {table.score:.3f}" if table.count else ""
            progress.update(bar, advance=done * accelerator.num_processes, score=running)  # others keep pace

        return score(loaded.model, validation, batch_size, accelerator, advance, table.add)


def _answers(tables: Sequence[Path]) -> dict[str, str]:
    import pyarrow.parquet as pq

    answers = {}
    for table in tables:
        rows = pq.read_table(table, columns=["task", "id", "prediction"]).to_pylist()
        for row in rows:
            if row["task"] == "question_answering":
                answers[row["id"]] = json.loads(row["prediction"])["answer"]
    return answers
