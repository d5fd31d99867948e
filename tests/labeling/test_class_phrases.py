from __future__ import annotations

from pathlib import Path

import pytest

from mdetr.errors import InvalidInputError
from mdetr.labeling.class_phrases import ClassPhrase, read_class_phrases

FILE = """
dog: [a dog, a puppy]
no:
traffic light:
  phrases: a traffic light
  threshold: 0.5
"""


def test_a_class_has_one_or_several_phrases_and_a_threshold(tmp_path: Path) -> None:
    file = tmp_path / "phrases.yaml"
    file.write_text(FILE)
    assert read_class_phrases(file) == [
        ClassPhrase("a dog", "dog"),
        ClassPhrase("a puppy", "dog"),
        ClassPhrase("no", "no"),
        ClassPhrase("a traffic light", "traffic light", 0.5),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected classes with their phrases"),
        ("- dog", "expected classes with their phrases"),
        ("dog: [a dog", "is not YAML"),
        ("dog: [[a, b]]", "class 'dog': expected a phrase or a list of phrases"),
        ("dog: {phrases: [a dog], threshold: high}", "expected a threshold from 0 to 1, got 'high'"),
        ("dog: {phrases: [a dog], threshold: nan}", "expected a threshold from 0 to 1, got 'nan'"),
        ("dog: {text: a dog}", "expected `phrases` and `threshold`, got 'text'"),
        ("dog: a pet\ncat: a pet", "'a pet' is a duplicate (classes 'dog' and 'cat')"),
        ("dog: ['  ']", "The text is empty"),
    ],
)
def test_an_invalid_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "phrases.yaml"
    file.write_text(content)
    with pytest.raises(InvalidInputError) as error:
        read_class_phrases(file)
    assert message in str(error.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_class_phrases(tmp_path / "none.yaml")
