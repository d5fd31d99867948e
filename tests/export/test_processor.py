"""The processor of an exported model gives what `MdetrProcessor` gives, and says what is damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdetr.checkpoints.loading import load_processor
from mdetr.errors import CheckpointError, InvalidInputError
from mdetr.export.processor import ExportedProcessor
from mdetr.processing.processor import MdetrProcessor

TEXTS = [
    "a red cube",
    "  Two   CATS, one dog!\t(and a <mask> </s> [SEP] token)",
    "naïve café, 東京 🐈‍⬛ and \u0645\u0631\u062d\u0628\u0627",
    "supercalifragilistic-expialidocious 1,203 names",
]
MODELS = ["clevr-tiny", "photo-tiny"]  # a byte-level tokenizer and one of word pieces


@pytest.fixture(scope="session", params=MODELS)
def processors(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[MdetrProcessor, ExportedProcessor]:
    """The two processors from one folder."""
    processor, _ = load_processor(request.param)
    folder = tmp_path_factory.mktemp("processor")
    processor.save_pretrained(folder)
    return MdetrProcessor.from_pretrained(folder), ExportedProcessor(folder)


@given(texts=st.lists(st.one_of(st.sampled_from(TEXTS), st.text(min_size=1, max_size=60)), min_size=1))
def test_tokens_and_padding_are_the_same(
    texts: list[str], processors: tuple[MdetrProcessor, ExportedProcessor]
) -> None:
    original, exported = processors
    texts = [text for text in texts if text.strip() and text.isprintable()] or TEXTS
    expected = original.tokenize_each(texts)
    got = exported.tokenize_each(texts)
    assert got == expected
    for multiple in (None, 8):
        original.pad_text_to_multiple = exported.pad_text_to_multiple = multiple
        padded = exported.pad_texts(got)
        for name, array in original.pad_texts(expected).items():
            np.testing.assert_array_equal(padded[name], array)


def test_padding_on_the_left_is_kept(tmp_path: Path) -> None:
    processor, _ = load_processor("clevr-tiny")
    processor.tokenizer.padding_side = "left"
    processor.save_pretrained(tmp_path)
    got = ExportedProcessor(tmp_path)
    texts = got.tokenize_each(TEXTS)
    padded = got.pad_texts(texts)
    assert padded["attention_mask"][0, 0] == 0
    for name, array in processor.pad_texts(texts).items():
        np.testing.assert_array_equal(padded[name], array)


def test_settings_and_refusals_are_the_same(processors: tuple[MdetrProcessor, ExportedProcessor]) -> None:
    original, exported = processors
    assert exported.answers == original.answers
    assert exported.threshold_or_default(None) == original.default_threshold
    assert vars(exported.image_processor).items() <= vars(original.image_processor).items()
    for texts in ([], [""], [3], ["\ud800"], ["many words " * 200]):
        messages = set()
        for processor in processors:
            with pytest.raises(InvalidInputError) as error:
                processor.tokenize_each(texts)
            messages.add(str(error.value))
        assert len(messages) == 1


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("processor_config.json", "{", "it is not JSON"),
        ("processor_config.json", "{}", "it has no 'image_processor'"),
        ("processor_config.json", '{"image_processor": 3}', "not iterable"),
        ("tokenizer.json", "{", "EOF while parsing"),
        ("tokenizer_config.json", '{"pad_token": "<none>"}', "tokenizer.json has no token '<none>'"),
    ],
)
def test_a_damaged_file_is_named(file: str, content: str, reason: str, tmp_path: Path) -> None:
    load_processor("clevr-tiny")[0].save_pretrained(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(CheckpointError, match=rf"{file} is damaged \(.*{reason}.*\); export the model again"):
        ExportedProcessor(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(CheckpointError, match=f"There is no file .*{file}; export the model again"):
        ExportedProcessor(tmp_path)


def test_a_wrong_value_is_refused(tmp_path: Path) -> None:
    load_processor("clevr-tiny")[0].save_pretrained(tmp_path)
    file = tmp_path / "processor_config.json"
    for field, value in (("max_text_tokens", -1), ("default_threshold", 3), ("answer_types", 3)):
        fields = json.loads(file.read_text())
        (tmp_path / "copy").mkdir(exist_ok=True)
        for each in tmp_path.glob("*.json"):
            shutil.copy(each, tmp_path / "copy")
        (tmp_path / "copy" / file.name).write_text(json.dumps(fields | {field: value}))
        with pytest.raises(CheckpointError, match=f"{field} must be"):
            ExportedProcessor(tmp_path / "copy")
