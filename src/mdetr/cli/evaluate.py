"""`mdetr evaluate`: a recipe and a model in, the scores of the recipe's tasks out."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


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
    batch_size: Annotated[int, typer.Option(min=1, help="Images a batch; all their texts share them.")] = 16,
) -> None:
    """Score a model on the validation stores of a recipe.

    Example: mdetr evaluate recipes/clevr-tiny.yaml --model clevr-tiny --json scores.json
    """
    from accelerate import Accelerator
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from mdetr.inference.grounder import Mdetr
    from mdetr.training.evaluation import Validation
    from mdetr.training.evaluation import evaluate as score
    from mdetr.training.recipe import check_files, load_recipe

    settings = load_recipe(recipe, changes or [])
    check_files(settings)
    accelerator = Accelerator()
    loaded = Mdetr.from_pretrained(model, device=str(accelerator.device))
    scores: dict[str, dict[str, float]] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for name, entry in settings.data.validation.items():
            validation = Validation.open(entry, loaded.processor)
            bar = progress.add_task(name, total=validation.num_images)
            scores[name] = score(
                loaded.model,
                validation,
                batch_size,
                accelerator,
                on_progress=partial(_advance, progress, bar, accelerator.num_processes),
            )
    if not accelerator.is_main_process:
        return
    table = Table("store", "figure", "value")
    for name, figures in scores.items():
        for figure, value in figures.items():
            table.add_row(name, figure, f"{value:.4f}")
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(scores, indent=1))


def _advance(progress: Progress, bar: TaskID, num_processes: int, done: int) -> None:
    progress.advance(bar, done * num_processes)  # the others keep pace
