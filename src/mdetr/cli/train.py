"""`mdetr train`: train a model by a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mdetr.training.shipped import find_recipe, recipe_names


def train(
    recipe: Annotated[
        str, typer.Argument(help="A name of mdetr recipes, or a YAML file.", autocompletion=recipe_names)
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Replace a value of the recipe: key=value, such as optimizer.lr=1e-4."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The run's folder; runs/ and the recipe's name if left out.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check the recipe and its files, print it in full with what the run will be, and stop.",
        ),
    ] = False,
) -> None:
    """Train a model by a recipe, on one CPU, one GPU, or under torchrun on many.

    Example: mdetr train clevr-tiny --set optimizer.steps=1000 --output runs/first
    """
    from mdetr.training.recipe_file import check_files, load_recipe, to_yaml
    from mdetr.training.run_folder import check_run_folder

    target = output or Path("runs") / Path(recipe).stem
    find_recipe(recipe)
    if not dry_run:
        check_run_folder(target, resume)  # told at once: reading a recipe loads all that it may name
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
    if os.environ.get("RANK", "0") == "0":  # one of all processes tells it
        typer.echo(f"The model is in {folder}; try it with: mdetr ground IMAGE TEXT --model {folder}")
