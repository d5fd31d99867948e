"""`mdetr train`: train a model with a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mdetr.training.recipe_file import find_recipe, recipe_names


def train(
    recipe: Annotated[
        str, typer.Argument(help="A name from mdetr recipes, or a YAML file.", autocompletion=recipe_names)
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Replace a value of the recipe: key=value, such as optimizer.lr=1e-4."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/RECIPE.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume from the last checkpoint of the run.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check the recipe and its files, print it in full with a plan of the run, and stop.",
        ),
    ] = False,
) -> None:
    """Train a model with a recipe, on a CPU, on a GPU, or with torchrun on many.

    Example: mdetr train clevr-tiny --set optimizer.steps=1000 --output runs/first
    """
    from mdetr.training.recipe_file import check_files, load_recipe, to_yaml
    from mdetr.training.run_folder import check_run_folder

    target = output or Path("runs") / Path(recipe).stem
    find_recipe(recipe)
    if not dry_run:
        check_run_folder(target, resume)  # before the slow imports of reading a recipe
    settings = load_recipe(recipe, changes or [])
    if dry_run:
        from tempfile import TemporaryDirectory

        from mdetr.training.plan import make_plan

        check_files(settings)
        with TemporaryDirectory() as temporary:
            plan = make_plan(settings, Path(temporary), int(os.environ.get("WORLD_SIZE", "1")))
        typer.echo(to_yaml(settings) + "".join(f"# {line}\n" for line in plan.lines()), nl=False)
        return
    check_files(settings)
    from mdetr.training.run import train as run

    folder = run(settings, target, resume)
    if os.environ.get("RANK", "0") == "0":  # a single process prints it
        typer.echo(f"The model is in {folder}; try it with: mdetr ground IMAGE TEXT --model {folder}")
