"""Submission files for the test servers of GQA and CLEVR."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mdetr.errors import InvalidInputError
from mdetr.files import atomic_write


def write_submission(answers: Mapping[str, str], file: Path) -> None:
    """Write predicted answers for a test server.

    Args:
        answers: Id of each question's record -> answer.
        file: A .json file for GQA, a list of questionId and prediction; or a .txt file for CLEVR, one answer
            per line in the order of the questions.

    Raises:
        InvalidInputError: There are no answers, or the file has another suffix.
    """
    if not answers:
        raise InvalidInputError("Expected questions to answer, got none; choose a store that has questions.")
    check_submission_file(file)
    if file.suffix == ".json":
        content = json.dumps([{"questionId": id, "prediction": answers[id]} for id in sorted(answers)])
    else:
        order = sorted(answers, key=_number)
        content = "".join(f"{answers[id]}\n" for id in order)
    with atomic_write(file) as temporary:
        temporary.write_text(content, encoding="utf-8")


def check_submission_file(file: Path) -> None:
    """Check that answers can be written to a file.

    Args:
        file: The submission file.

    Raises:
        InvalidInputError: The file has another suffix, or its folder is missing.
    """
    if file.suffix not in (".json", ".txt"):
        raise InvalidInputError(
            f"Expected a .json file (GQA) or a .txt file (CLEVR) for answers, got {file.name!r}; "
            "choose one of these suffixes."
        )
    if not file.parent.is_dir():
        raise InvalidInputError(f"{file.name} cannot be written: no folder {file.parent}; create it first.")


def _number(id: str) -> int:
    """Index of a CLEVR question, whose id is "question-INDEX"."""
    number = id.rpartition("-")[2]
    if not number.isdigit():
        raise InvalidInputError(
            f"Expected questions with ids like 'question-17', got {id!r}; write a .json file instead."
        )
    return int(number)
