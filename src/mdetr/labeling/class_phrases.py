"""Classes of a data set, and the phrases that a model detects them by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from mdetr.errors import InvalidInputError
from mdetr.files import parse_yaml
from mdetr.processing.texts import check_text

_EXAMPLE = "`dog: [a dog, a puppy]` or `dog: {phrases: [a dog], threshold: 0.5}`"


@dataclass(frozen=True, slots=True)
class ClassPhrase:
    """A phrase to detect.

    Attributes:
        phrase: The text that the model sees, such as "a puppy".
        class_name: Class of its boxes, such as "dog".
        threshold: Minimum score of a box, from 0 to 1; None for the default.
    """

    phrase: str
    class_name: str
    threshold: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold."""
        return asdict(self)


def read_class_phrases(file: Path) -> list[ClassPhrase]:
    """Read a YAML or JSON file that maps each class to its phrases.

    Such as

        dog: [a dog, a puppy]
        cat:                    # detected by its own name
        traffic light:
          phrases: [a traffic light, traffic signals]
          threshold: 0.5

    Args:
        file: The file.

    Returns:
        The phrases, in the order of the file.

    Raises:
        InvalidInputError: The file does not exist or is not YAML, or an entry is invalid.
    """
    try:
        # All scalars as text, whatever they look like: a class may be called "no"
        content: Any = parse_yaml(file.read_text(encoding="utf-8-sig"), yaml.BaseLoader)
    except OSError as error:
        raise InvalidInputError(f"The file {file} cannot be read ({error.strerror}).") from None
    except (InvalidInputError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{file} is not YAML in UTF-8 ({error}).") from None
    if not isinstance(content, dict) or not content:
        raise InvalidInputError(f"{file}: expected classes with their phrases, such as {_EXAMPLE}.")

    phrases: list[ClassPhrase] = []
    for name, value in content.items():
        try:
            phrases += _read_class(str(name), value)
        except InvalidInputError as error:
            raise InvalidInputError(f"{file}, class {name!r}: {error}") from None
    check_phrases(phrases)
    return phrases


def check_phrases(phrases: Sequence[ClassPhrase]) -> None:
    """Check that there are phrases, and that each is a valid text of a single class.

    Args:
        phrases: The phrases of all classes.

    Raises:
        InvalidInputError: There is none, one is not a valid text, or one is a duplicate.
    """
    if not phrases:
        raise InvalidInputError("There is no class; give at least one.")
    classes: dict[str, str] = {}
    for phrase in phrases:
        check_text(phrase.phrase)
        if phrase.phrase in classes:
            raise InvalidInputError(
                f"The phrase {phrase.phrase!r} is a duplicate (classes {classes[phrase.phrase]!r} and "
                f"{phrase.class_name!r}); give each phrase once."
            )
        classes[phrase.phrase] = phrase.class_name


def _read_class(name: str, value: Any) -> list[ClassPhrase]:
    """Read the phrases of one class: a text, a list, a mapping with a threshold, or nothing."""
    # Separate the threshold from the phrases
    threshold = None
    phrases = value
    if isinstance(value, dict):
        unknown = sorted(value.keys() - {"phrases", "threshold"})
        if unknown:
            raise InvalidInputError(f"expected `phrases` and `threshold`, got {unknown[0]!r}.")
        phrases = value.get("phrases")
        if "threshold" in value:
            threshold = _read_threshold(value["threshold"])

    # A class without phrases is detected by its own name
    if phrases in (None, ""):
        phrases = [name]
    elif isinstance(phrases, str):
        phrases = [phrases]
    if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
        raise InvalidInputError(f"expected a phrase or a list of phrases, such as {_EXAMPLE}.")
    return [ClassPhrase(phrase.strip(), name, threshold) for phrase in phrases]


def _read_threshold(value: Any) -> float:
    try:
        threshold = float(value)
    except (TypeError, ValueError):
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise InvalidInputError(f"expected a threshold from 0 to 1, got {value!r}.")
    return threshold
