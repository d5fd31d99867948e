"""Released files, written as the original program writes them: they convert, or are refused with a reason."""

from __future__ import annotations

import argparse
import json
import pickle
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mdetr.checkpoints.conversion import convert, read_answers
from mdetr.checkpoints.key_mapping import rename_key
from mdetr.checkpoints.loading import load
from mdetr.errors import CheckpointError
from tests.model.reference import FOLDER, reference_model

VARIANT = "clevrref_r18"  # the smallest


@pytest.fixture(scope="module")
def released() -> dict[str, Any]:
    """What a released file of the smallest variant holds; the last weights are half the averaged ones."""
    layout = json.loads((FOLDER / "layout" / f"{VARIANT}.json").read_text())
    ours = reference_model(VARIANT).state_dict()
    state = {key: ours[name].clone() for key in layout["keys"] if (name := rename_key(key)) is not None}
    state["transformer.text_encoder.embeddings.position_ids"] = torch.arange(514)[None]
    last = {key: value / 2 if value.is_floating_point() else value for key, value in state.items()}
    return {
        "model": last,
        "model_ema": state,
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]},
        "epoch": 3,
        "args": argparse.Namespace(**layout["args"]),
    }


@pytest.fixture
def file(released: dict[str, Any], tmp_path: Path) -> Path:
    torch.save(released, tmp_path / "released.pth")
    return tmp_path / "released.pth"


def test_the_averaged_weights_are_taken(file: Path, tmp_path: Path) -> None:
    model, processor = load(convert(file, tmp_path / "model"))
    expected = reference_model(VARIANT).state_dict()
    state = model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    assert processor.image_processor.size is None  # CLEVR's pictures are looked at as they are
    assert len(processor.tokenizer) == 50265
    assert len({file.stat().st_mode for file in (tmp_path / "model").iterdir()}) == 1  # none is hidden


def test_the_last_weights_can_be_taken(file: Path, tmp_path: Path) -> None:
    model, _ = load(convert(file, tmp_path / "model", weights="model"))
    weight = reference_model(VARIANT).box_head.layers[0].weight
    assert torch.equal(model.box_head.layers[0].weight, weight / 2)


def test_a_file_without_averaged_weights_gives_its_last_unless_they_are_asked_for(
    released: dict[str, Any], tmp_path: Path
) -> None:
    torch.save({**released, "model_ema": None}, tmp_path / "released.pth")
    model, _ = load(convert(tmp_path / "released.pth", tmp_path / "model"))
    weight = reference_model(VARIANT).box_head.layers[0].weight
    assert torch.equal(model.box_head.layers[0].weight, weight / 2)
    with pytest.raises(CheckpointError, match="no weights 'model_ema'; try --weights model"):
        convert(tmp_path / "released.pth", tmp_path / "other", weights="ema")


def test_the_words_of_answers_come_from_the_released_annotations(tmp_path: Path) -> None:
    unified = {"yes": 1, "no": 0, "unknown": 2}
    by_type = {"answer_obj": {"no": 0, "yes": 1}, "answer_attr": {"red": 0}}
    (tmp_path / "gqa_answer2id.json").write_text(json.dumps(unified))
    (tmp_path / "gqa_answer2id_by_type.json").write_text(json.dumps(by_type))
    assert read_answers(tmp_path) == {
        "answer": ["no", "yes", "unknown"],
        "obj": ["no", "yes"],
        "attr": ["red"],
    }
    (tmp_path / "gqa_answer2id.json").write_text(json.dumps({"yes": 1}))
    with pytest.raises(CheckpointError, match="give each answer its number, counted from 0"):
        read_answers(tmp_path)
    (tmp_path / "gqa_answer2id.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"gqa_answer2id\.json is damaged"):
        read_answers(tmp_path)
    with pytest.raises(CheckpointError, match=r"There is no file .*--answers wants"):
        read_answers(tmp_path / "none")


def test_a_folder_is_not_overwritten(file: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(CheckpointError, match="already exists; choose another folder"):
        convert(file, tmp_path / "model")


def _without(released: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {**released, "model_ema": {k: v for k, v in released["model_ema"].items() if k not in keys}}


def _swapped(released: dict[str, Any]) -> dict[str, Any]:
    state = dict(released["model_ema"])
    state["bbox_embed.layers.2.weight"] = state["bbox_embed.layers.2.weight"].T
    return {**released, "model_ema": state}


def _other(released: dict[str, Any], **changes: object) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(released["args"]), **changes})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: {**r, "model_ema": None, "model": None}, "no weights 'model'; try --weights ema"),
        (lambda r: _without(r, "class_embed.weight"), r"token_head\.linear\.weight is missing"),
        (_swapped, r"bbox_embed\.layers\.2\.weight is \(256, 4\) instead of \(4, 256\)"),
        (lambda r: {**r, "model_ema": {**r["model_ema"], "extra": torch.zeros(1)}}, "extra is unknown"),
        (lambda r: {**r, "model_ema": {"fc.weight": torch.zeros(2)}}, "fc.weight is unknown; .* more"),
        (lambda r: r["model_ema"], "holds no arguments of the original program"),
        (lambda r: {**r, "args": argparse.Namespace(lr=1)}, "without 'text_encoder_type'"),
        (lambda r: {**r, "args": _other(r, hidden_dim="big")}, "its arguments describe no model"),
        (lambda r: {**r, "args": _other(r, nheads=7)}, "multiple of twice the 7 attention heads"),
        (
            lambda r: {**r, "when": Fraction(1, 2)},
            r"tensors and settings only, this one also fractions\.Fraction",
        ),
    ],
    ids=[
        "no-ema",
        "missing",
        "swapped",
        "unknown",
        "another-model",
        "bare-state",
        "bare-args",
        "text-for-number",
        "impossible-args",
        "foreign-class",
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_nothing_is_written(
    released: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    torch.save(change(released), tmp_path / "released.pth")
    with pytest.raises(CheckpointError, match=message):
        convert(tmp_path / "released.pth", tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["released.pth"]


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("<html>Not found</html>"), "a page that was saved instead of the file"),
        (lambda path: path.touch(), "is empty; download it again"),
        (lambda path: path.mkdir(), "is a folder; name the released file"),
        (_zip, "is damaged or no PyTorch checkpoint"),
        (lambda path: save_file({"weight": torch.zeros(1)}, path), "is damaged or no PyTorch checkpoint"),
        (lambda path: torch.save([1, 2], path), "holds no arguments of the original program"),
    ],
    ids=["page", "empty", "folder", "zip", "safetensors", "list"],
)
def test_what_is_no_checkpoint_is_refused_in_a_sentence_without_torchs_own_words(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "released.pth")
    with pytest.raises(CheckpointError, match=message) as refusal:
        convert(tmp_path / "released.pth", tmp_path / "model")
    assert "mmap" not in str(refusal.value)
    assert not (tmp_path / "model").exists()


def test_a_safetensors_file_is_told_that_it_needs_no_conversion(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="needs no conversion"):
        convert(tmp_path / "model.safetensors", tmp_path / "model")


def test_a_tokenizer_that_is_not_there_and_a_place_that_cannot_be_written_are_named(
    file: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="Could not load 'no-tokenizer'"):
        convert(file, tmp_path / "model", tokenizer="no-tokenizer")
    with pytest.raises(CheckpointError, match="holds no tokenizer that can be read"):
        convert(file, tmp_path / "model", tokenizer=tmp_path)
    with pytest.raises(CheckpointError, match=r"The folder .*model could not be written"):
        convert(file, file / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["released.pth"]


def test_a_truncated_file_a_plain_pickle_and_no_file_are_refused(file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pth"
    cut.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"cut\.pth is damaged or no PyTorch checkpoint"):
        convert(cut, tmp_path / "model")
    cut.write_bytes(pickle.dumps({"model": 1}))
    with pytest.raises(CheckpointError, match=r"cut\.pth"):
        convert(cut, tmp_path / "model")
    with pytest.raises(CheckpointError, match="There is no file"):
        convert(tmp_path / "none.pth", tmp_path / "model")
