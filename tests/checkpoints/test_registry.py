"""The table of names: complete, unambiguous, and the one that the documents use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mdetr import Mdetr
from mdetr.checkpoints.registry import BUNDLED, RELEASED, Task, model_names, nearest_name, released_model
from mdetr.cli.main import app

ROOT = Path(__file__).parents[2]


def test_every_bundled_model_is_in_the_table() -> None:
    folders = (ROOT / "src" / "mdetr" / "assets" / "models").glob("*/config.json")
    assert {entry.name for entry in BUNDLED} == {file.parent.name for file in folders}
    assert all((entry.folder / "config.json").is_file() for entry in BUNDLED)


def test_no_name_and_no_file_is_given_twice() -> None:
    assert len(set(model_names())) == len(BUNDLED) + len(RELEASED) == 22
    assert len({entry.file for entry in RELEASED}) == len(RELEASED)
    assert model_names()[:2] == ["photo-tiny", "clevr-tiny"]  # bundled models come first


@pytest.mark.parametrize("task", list(Task))
def test_every_task_is_a_command_and_a_method(task: Task) -> None:
    assert task.command in {command.callback.__name__ for command in app.registered_commands}
    assert callable(getattr(Mdetr, task.command))


def test_addresses_are_those_of_the_release_or_of_a_mirror() -> None:
    model = released_model("refcoco+-b3")
    assert model is not None
    assert model.address() == "https://zenodo.org/record/4721981/files/refcoco%2B_EB3_checkpoint.pth"
    assert model.address("http://host/mdetr/") == "http://host/mdetr/refcoco%2B_EB3_checkpoint.pth"
    assert model.address("http://host/mine.pth?download=1") == "http://host/mine.pth?download=1"


def test_the_nearest_name_is_offered() -> None:
    assert nearest_name("refcoco-r10") == "refcoco-r101"
    assert nearest_name("yolo") is None


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
)
def test_the_documents_name_models_as_the_table_does(page: str) -> None:
    text = (ROOT / page).read_text()
    named = re.findall(
        r'from_pretrained\("([^"]+)"|--model ([a-z]\S+)|mdetr (?:download|models) ([a-z]\S+)', text
    )
    names = {name.rstrip("`.,;)") for groups in named for name in groups if name}
    assert {name for name in names if "/" not in name} <= {*model_names()}
