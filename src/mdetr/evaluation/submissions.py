"""Submission files for test servers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mdetr.errors import InvalidInputError
from mdetr.files import atomic_write


def write_submission(answers: Mapping[str, str], file: Path) -> None:
    """Write the answers for a test server.

    Args:
        answers: the id of each question's record -> the answer.
        file: a .json file for GQA, a list of questionId and prediction; or a .txt file for CLEVR, an answer
            on each line in the order of the questions.

    Raises:
        InvalidInputError: there are no answers, or the file has another suffix.
    """
    if not answers:
        raise InvalidInputError("There are no answers to submit: no record is a question.")
    check_submission_file(file)
    if file.suffix == ".json":
        content = json.dumps([{"questionId": id, "prediction": answers[id]} for id in sorted(answers)])
    else:
        order = sorted(answers, key=_number)
        content = "".join(f"{answers[id]}\n" for id in order)
    with atomic_write(file) as temporary:
        temporary.write_text(content, encoding="utf-8")


def check_submission_file(file: Path) -> None:
    """See that answers can be written to a file.

    Raises:
        InvalidInputError: it has another suffix, or its folder is missing.
    """
    if file.suffix not in (".json", ".txt"):
        raise InvalidInputError(
            f"Name a .json file (GQA) or a .txt file (CLEVR) for answers; found {file.name!r}."
        )
    if not file.parent.is_dir():
        raise InvalidInputError(f"There is no folder {file.parent} to write {file.name} to; create it first.")


def _number(id: str) -> int:
    """The index of a question of CLEVR, of which `id` is "question-INDEX"."""
    number = id.rpartition("-")[2]
    if not number.isdigit():
        raise InvalidInputError(
            f"The question {id!r} has no number, so its answer has no line; write a .json file."
        )
    return int(number)
