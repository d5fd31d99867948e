"""`mdetr refer`: one box per picture and expression."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from tests.cli.conftest import Command


def test_an_expression_gives_one_box_a_picture_and_json(
    command: Command, picture: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    drawn, answer = tmp_path / "found.png", tmp_path / "found.json"
    code, output, _ = command(
        "refer", picture, "the red cube", "--model", tiny_model_folder, "--output", drawn, "--json", answer
    )
    assert code == 0
    content = json.loads(answer.read_text())
    assert " ".join(f"{value:.0f}" for value in content["box"]) in output
    assert 0 <= content["score"] <= 1
    assert Image.open(drawn).width >= 640


def test_several_expressions_and_pictures(
    command: Command, pictures: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    code, output, _ = command(
        *("refer", pictures, "the cube", "--also", "the ball", "--model", tiny_model_folder),
        *("--output", tmp_path / "out"),
    )
    assert code == 0
    assert output.count("the ball") == 2
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_an_expression_that_nothing_fits_is_answered_so(
    command: Command, picture: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    drawn, answer = tmp_path / "found.png", tmp_path / "found.json"
    code, output, _ = command(
        *("refer", picture, "the red cube", "--model", tiny_model_folder, "--threshold", 1.0),
        *("--output", drawn, "--json", answer),
    )
    assert code == 0
    assert "nothing found with a score of at least 1.0" in output
    assert json.loads(answer.read_text())["box"] is None
    assert Image.open(drawn).width >= 640
