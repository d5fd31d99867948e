"""The figures of the documentation, and the numbers in pages that come from files of the package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mdetr import Mdetr
from mdetr.checkpoints.registry import RELEASED
from mdetr.training.recipe_file import find_recipe, load_recipe, recipe_names
from tests.documents.running import ROOT
from tests.documents.workplace import ASSETS
from tools.draw_figures import CAPTION, PREDICTED, TOKENS


def test_the_figures_are_those_that_the_program_draws() -> None:
    command = [sys.executable, str(ROOT / "tools" / "draw_figures.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_figure_of_soft_tokens_shows_what_the_model_predicts() -> None:
    model = Mdetr.from_pretrained("photo-tiny", device="cpu")
    batch = model.processor(images=str(ASSETS / "demo" / "cat.jpg"), text=CAPTION)
    with torch.no_grad():
        probabilities = model.model(**batch).logits[0].softmax(-1)
    best = probabilities[probabilities[:, -1].argmin()]
    tokens = model.processor.tokenizer.convert_ids_to_tokens(batch.input_ids[0])
    assert (*tokens, "no object") == TOKENS
    predicted = [*best[: len(tokens)].tolist(), best[-1].item()]
    assert predicted == pytest.approx(PREDICTED, abs=0.011)


def test_the_table_of_recipes_shows_their_values_and_the_figures_of_the_paper() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text()
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\) \| (.*)\|$", page, re.MULTILINE)
    own = {"clevr-tiny", "clevr-tiny-qa", "clevr-tiny-varied", "finetune", "photo-tiny"}
    baselines = {name for name in recipe_names() if "baseline" in name}
    assert {name for name, _, _ in rows} == set(recipe_names()) - own - baselines

    released = {model.name: model for model in RELEASED}
    for name, link, cells in rows:
        recipe = load_recipe(find_recipe(name))
        start, batch, epochs, model, figures = (cell.strip().strip("`") for cell in cells.split("|"))
        assert (ROOT / "docs" / link).is_file() and Path(link).name == f"{name}.yaml"
        assert start == (recipe.model.start_from or "")
        assert (int(batch), float(epochs)) == (recipe.optimizer.batch_size, recipe.optimizer.epochs)
        assert figures == (released[model].figures if model else "")
