"""`mdetr answer`, `segment`, `detect` and `models`: tables, pictures and JSON; wrong calls refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from mdetr.checkpoints import released
from mdetr.checkpoints.registry import model_names
from mdetr.inference.grounder import Mdetr
from mdetr.wording import ANSWER_TYPES
from tests.cli.conftest import Command


def test_an_answer_is_printed_drawn_and_written(
    command: Command, picture: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    drawn, written = tmp_path / "found.png", tmp_path / "found.json"
    code, output, _ = command(
        *("answer", picture, "What color is the cube?", "--model", tiny_model_folder),
        *("--output", drawn, "--json", written, "--threshold", 0),
    )
    assert code == 0
    content = json.loads(written.read_text())
    assert f"{content['answer']} ({ANSWER_TYPES[content['answer_type']]})" in output
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
    assert f"{len(content['objects'])} objects, " in output
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
    assert "no head that makes masks" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("answer", "--model", "photo-tiny"), "The model photo-tiny has no head that answers questions."),
        (("answer", "--model", "lvis1-r101"), "The model lvis1-r101 has no head that answers questions."),
        (("segment", "--model", "gqa-r101"), "have one: phrasecut-r101, phrasecut-b3, which are downloaded."),
        (("ground", "--device", "gpu"), "There is no type of device 'gpu'"),
        (("ground", "--model", "models/x"), "There is no folder 'models/x'"),
    ],
)
def test_what_a_call_lacks_is_told_before_a_model_is_loaded_or_downloaded(
    command: Command,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr(Mdetr, "from_pretrained", pytest.fail)
    monkeypatch.setattr(released, "get_released", pytest.fail)
    name, *options = arguments
    code, output, error = command(name, picture, "a cube", *options)
    assert (code, output, error.count("\n")) == (1, "", 1)
    assert message in error


def test_a_model_that_cannot_answer_names_all_that_can(command: Command, picture: Path) -> None:
    _, _, error = command("answer", picture, "Is it red?", "--model", "photo-tiny")
    known = error.partition("These have one: ")[2].partition(" Use one")[0]
    assert known == (
        "clevr-tiny, which comes with the package; gqa-r101, gqa-b5, clevr-r18, clevr-humans-r18, "
        "clevr-cogent-r18, which are downloaded."
    )


def test_models_are_listed_in_80_columns_those_of_the_package_first(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("MDETR_HOME", str(tmp_path))
    (tmp_path / "models" / "gqa-b5").mkdir(parents=True)
    (tmp_path / "models" / "gqa-b5" / "config.json").touch()
    code, output, _ = command("models")
    assert code == 0
    lines = output.splitlines()
    assert lines[0].split() == ["name", "task", "description", "size", "local"]
    assert [line.split()[0] for line in lines[1 : len(model_names()) + 1]] == model_names()  # one line each
    assert " ".join(lines[2].split()) == "clevr-tiny grounding very small, synthetic CLEVR 6 MB yes"
    assert " ".join(lines[14].split()) == "gqa-b5 answering EfficientNet-B5, GQA 2.7 GB yes"
    assert [line.split()[0] for line in lines if line.rstrip().endswith("yes")] == [
        "photo-tiny",
        "clevr-tiny",
        "gqa-b5",
    ]
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "Figures and usage: mdetr models NAME"  # no line of the footer is broken
    assert [line for line in lines if len(line.split()) == 1] == []


def test_the_details_of_a_model_say_how_good_it_is_where_it_is_and_how_to_use_it(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MDETR_HOME", str(tmp_path))
    code, output, _ = command("models", "refcoco+-r101")
    assert code == 0
    assert "RefCOCO+ val 79.52, testA 84.09, testB 70.62" in output
    assert "https://zenodo.org/record/4721981/files/refcoco%2B_resnet101_checkpoint.pth" in output
    assert f"{tmp_path}/models/refcoco+-r101, once it is downloaded" in output
    assert 'Mdetr.from_pretrained("refcoco+-r101")' in output
    assert "mdetr refer IMAGE... TEXT --model refcoco+-r101" in output
    assert "--answers" not in output
    assert "mdetr download gqa-r101 --answers FOLDER" in command("models", "gqa-r101")[1]
    assert "comes with the package" in command("models", "clevr-tiny")[1]
    code, _, error = command("models", "refcoco-r10")
    assert code == 1
    assert "did you mean refcoco-r101?" in error


def test_what_cannot_be_downloaded_is_told(command: Command) -> None:
    code, output, _ = command("download", "clevr-tiny")
    assert code == 0
    assert output == "clevr-tiny comes with the package; there is nothing to download.\n"
    code, _, error = command("download", "pretrained-r10")
    assert code == 1
    assert error == "mdetr: There is no model 'pretrained-r10': did you mean pretrained-r101?\n"
