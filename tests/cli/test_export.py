"""`mdetr export`: a folder that every command runs; wrong calls refused before a model is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.processor import MdetrProcessor
from tests.cli.conftest import Command
from tests.model.models import small_model


def test_an_exported_model_gives_the_results_of_the_model_on_the_command_line(
    command: Command, picture: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model, folder = tmp_path / "model", tmp_path / "exports" / "mine"
    small_model(encoder_layers=1, decoder_layers=1).save_pretrained(model)
    MdetrProcessor(MdetrImageProcessor(size={"shortest_edge": 96}), tokenizer).save_pretrained(model)
    code, output, _ = command("export", model, folder, "--format", "onnx")
    assert code == 0
    assert f"The model is in {folder} (" in output and f"--model {folder}" in output

    written = {}
    for name in (model, folder):
        file = tmp_path / "found.json"
        options = ("--threshold", 0, "--json", file)
        code, _, _ = command("ground", picture, "a red cube", "--model", name, *options)
        assert code == 0
        written[name] = json.loads(file.read_text())["groundings"]
    assert len(written[model]) == len(written[folder]) > 0
    for one, other in zip(written[model], written[folder], strict=True):
        assert one["phrase"] == other["phrase"]
        assert one["box"] == pytest.approx(other["box"], abs=0.01)

    code, _, errors = command("--verbose", "ground", picture, "a cube", "--model", folder)
    assert code == 0 and "mdetr: running on the CPU, " in errors
    code, _, errors = command("answer", picture, "What is it?", "--model", folder)
    assert code == 1 and "has no head that answers questions" in errors
    code, _, errors = command("ground", picture, "a cube", "--model", folder, "--dtype", "bfloat16")
    assert code == 1 and "export it again with another --precision" in errors
    code, _, errors = command("export", folder, tmp_path / "again")
    assert code == 1 and "name the model that it was exported from" in errors


def test_wrong_calls_are_refused_and_write_nothing(command: Command, pictures: Path, tmp_path: Path) -> None:
    new, empty = tmp_path / "new", tmp_path / "empty.txt"
    empty.write_text("\n\n")
    int8 = ("--precision", "int8")
    wrong = {
        ("clevr-tiny", pictures): "already exists; choose another output folder",
        ("clevr-tiny", new, *int8): "give some tens of them with --calibrate FOLDER",
        ("clevr-tiny", new, *int8, "--calibrate", new): f"There is no folder {new}",
        ("clevr-tiny", new, "--calibrate", pictures): "Only int8 is calibrated",
        ("clevr-tiny", new, *int8, "--calibrate", pictures, "--texts", empty): "has no texts",
        ("clevr-tiny", new, "--texts", pictures / "notes.txt"): "--texts is for the calibration of int8",
        ("clevr-tinny", new): "Did you mean clevr-tiny?",
    }
    for arguments, message in wrong.items():
        code, _, errors = command("export", *arguments)
        assert code == 1 and message in errors, errors
    code, _, errors = command("export", "clevr-tiny", new, "--format", "tflite")
    assert code == 2 and "'onnx', 'openvino'" in errors.replace('"', "'")
    assert not new.exists()
