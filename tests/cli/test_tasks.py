"""`mdetr answer`, `segment`, `detect` and `models`: tables, pictures and JSON; wrong calls refused."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from mdetr.checkpoints.registry import RELEASED
from tests.cli.conftest import Command


def test_an_answer_is_printed_drawn_and_written(
    command: Command, picture: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    drawn, written = tmp_path / "found.png", tmp_path / "found.json"
    code, output, _ = command(
        *("answer", picture, "What colour is the cube?", "--model", tiny_model_folder),
        *("--output", drawn, "--json", written, "--threshold", 0),
    )
    assert code == 0
    content = json.loads(written.read_text())
    assert f"{content['answer']} ({content['answer_type']})" in output
    assert content["groundings"]
    assert Image.open(drawn).width >= 640


def test_a_mask_is_printed_drawn_and_written(
    command: Command, picture: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    drawn, written = tmp_path / "found.png", tmp_path / "found.json"
    code, output, _ = command(
        *("segment", picture, "the cube", "--model", tiny_model_folder),
        *("--output", drawn, "--json", written, "--threshold", 0),
    )
    assert code == 0
    content = json.loads(written.read_text())
    assert content["mask"]["size"] == [content["height"], content["width"]]
    assert sum(content["mask"]["counts"]) == content["height"] * content["width"]
    assert f"{len(content['objects'])} found" in output
    assert Image.open(drawn).width >= 640


def test_names_come_from_the_line_or_from_a_file(
    command: Command, pictures: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cube\n\nmetal ball\n", encoding="utf-8-sig")  # with a mark, as Windows writes it
    written = {}
    for kind, arguments in {"line": ("cube, metal ball,",), "file": ("--names-file", names)}.items():
        file = tmp_path / f"{kind}.json"
        code, _, _ = command(
            *("detect", pictures, *arguments, "--model", tiny_model_folder, "--threshold", 0.0),
            *("--json", file, "--output", tmp_path / kind),
        )
        assert code == 0
        written[kind] = json.loads(file.read_text())
        assert len(list((tmp_path / kind).iterdir())) == 2
    assert written["line"] == written["file"]
    assert written["line"][0]["names"] == ["cube", "metal ball"]


def test_a_call_without_names_or_with_a_missing_file_is_refused(
    command: Command, picture: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    code, _, error = command("detect", picture, "--model", tiny_model_folder)
    assert code == 1
    assert "separated by commas" in error
    code, _, error = command("detect", picture, "--names-file", "none.txt", "--model", tiny_model_folder)
    assert code == 1
    assert "There is no file none.txt" in error
    (tmp_path / "names.txt").write_text("Würfel", encoding="latin-1")
    code, _, error = command(
        "detect", picture, "--names-file", tmp_path / "names.txt", "--model", tiny_model_folder
    )
    assert code == 1
    assert "names.txt is not UTF-8 text" in error


def test_a_model_without_the_head_says_so(command: Command, picture: Path) -> None:
    code, _, error = command("segment", picture, "a cube", "--model", "clevr-tiny")
    assert code == 1
    assert "no head that predicts masks" in error


def test_models_are_listed_and_each_says_how_to_get_it(command: Command) -> None:
    code, output, _ = command("models")
    assert code == 0
    assert all(entry.name in output for entry in RELEASED)
    assert "clevr-tiny" in output
    code, output, _ = command("models", "refcoco+-r101")
    assert code == 0
    assert "refcoco%2B_resnet101_checkpoint.pth" in output
    assert "mdetr convert" in output
    code, _, error = command("models", "refcoco-r10")
    assert code == 1
    assert "did you mean refcoco-r101?" in error
