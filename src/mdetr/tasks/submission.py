"""Answers to questions in, a file as the test servers want it out."""

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
    if file.suffix == ".json":
        content = json.dumps([{"questionId": id, "prediction": answers[id]} for id in sorted(answers)])
    elif file.suffix == ".txt":
        order = sorted(answers, key=_number)
        content = "".join(f"{answers[id]}\n" for id in order)
    else:
        raise InvalidInputError(
            f"Name a .json file (GQA) or a .txt file (CLEVR) for answers; found {file.name!r}."
        )
    with atomic_write(file) as temporary:
        temporary.write_text(content, encoding="utf-8")


def _number(id: str) -> int:
    """The index of a question of CLEVR, of which `id` is "question-INDEX"."""
    number = id.rpartition("-")[2]
    if not number.isdigit():
        raise InvalidInputError(
            f"The question {id!r} has no number, so its answer has no line; write a .json file."
        )
    return int(number)
