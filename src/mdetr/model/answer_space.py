"""The answers that a model can give: their types and their words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32

from mdetr.errors import InvalidInputError
from mdetr.model.tensors import Tensor, sigmoid, softmax, to_array

if TYPE_CHECKING:
    from mdetr.model.config import MdetrConfig
else:
    MdetrConfig = Any  # its module imports transformers, which exported models run without

TYPE, UNIFIED, BINARY, NUMBER = "type", "answer", "binary", "reg"
UNKNOWN = "unknown"
NUMBERED = "#"  # prefix of answers whose words are not known

Vocabulary = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class AnswerSpace:
    """Answers that a model can give.

    types: Answer types, in the order of their ids; empty if one head gives all answers.
    vocabulary: Type (or "answer") -> its answers, in the order of the head's outputs.
    """

    types: Sequence[str] = ()
    vocabulary: Vocabulary = field(default_factory=dict)

    @classmethod
    def of(cls, config: MdetrConfig) -> AnswerSpace:
        """Answer space of a model with this configuration."""
        return cls(tuple(config.answer_types or ()), config.answer_vocabulary or {})

    def encode(self, answer: str, answer_type: str | None = None) -> tuple[int, int]:
        """Ids of an answer and of its type.

        Args:
            answer: Words of the answer. If the vocabulary lacks them, its entry "unknown" is used.
            answer_type: One of `types`; ignored if one head gives all answers.

        Returns:
            The id of the type (0 with one head), and the id of the answer within its type.

        Raises:
            InvalidInputError: The type is not one of the model's, or the answer has no id.
        """
        # Find the vocabulary of the type
        if self.types and answer_type not in self.types:
            raise InvalidInputError(
                f"Expected an answer type of {', '.join(self.types)}, got {answer_type!r} for the answer "
                f"{answer!r}."
            )
        name = answer_type if self.types and answer_type is not None else UNIFIED
        words = list(self.vocabulary.get(name, ()))
        if not words:
            raise InvalidInputError(
                f"The model cannot learn the answer {answer!r}: it has no answers, or its processor has no "
                "vocabulary for them."
            )

        # Find the answer in it
        if answer not in words and UNKNOWN not in words:
            hint = (
                "its answers are numbered; download or convert it with --answers"
                if words[0].startswith(NUMBERED)
                else f"it has {', '.join(words[:20])}"
            )
            raise InvalidInputError(f"The model has no answer {answer!r} of the type {name}: {hint}.")
        answer_id = words.index(answer if answer in words else UNKNOWN)
        return (self.types.index(name) if self.types else 0), answer_id

    def decode(
        self, answer_logits: Mapping[str, Float[Tensor, "batch _"]]
    ) -> list[tuple[str, str | None, float]]:
        """Most probable answer of each text.

        Args:
            answer_logits: Name of the head -> logits (B, n).

        Returns:
            For each text the answer, its type (None with one head), and its probability: that of the type
            times that of the answer within the type.
        """
        # One head for all answers
        if not self.types:
            probabilities = answer_probabilities(UNIFIED, answer_logits[UNIFIED])
            words = self.vocabulary[UNIFIED]
            best = probabilities.argmax(-1)
            return [
                (words[answer], None, float(row[answer]))
                for answer, row in zip(best, probabilities, strict=True)
            ]

        # The most probable type, then the most probable answer of that type
        type_probabilities = answer_probabilities(TYPE, answer_logits[TYPE])
        by_type = {name: answer_probabilities(name, answer_logits[name]) for name in self.types}
        answers: list[tuple[str, str | None, float]] = []
        for text, type_id in enumerate(type_probabilities.argmax(-1)):
            name = self.types[type_id]
            probabilities = by_type[name][text]
            best_answer = int(probabilities.argmax())
            score = float(type_probabilities[text, type_id] * probabilities[best_answer])
            answers.append((self.vocabulary[name][best_answer], name, score))
        return answers


def answer_probabilities(
    name: str, logits: Float[Tensor, "batch outputs"]
) -> Float32[np.ndarray, "batch answers"]:
    """Probabilities of the answers of one head, (B, answers).

    Args:
        name: Name of the head; "binary" has one logit, of its second answer.
        logits: (B, outputs).

    Returns:
        (B, answers), summing to 1.
    """
    array = to_array(logits)
    if name == BINARY:
        yes = sigmoid(array)
        return np.concatenate((1 - yes, yes), axis=-1)
    return softmax(array)


def numbered(count: int) -> list[str]:
    """Vocabulary for answers whose words are not known: "#0", "#1", ..."""
    return [f"{NUMBERED}{number}" for number in range(count)]


GQA_QUERIES = ("type", "obj", "rel", "attr", "cat", "global")
GQA_TYPES = ("obj", "attr", "rel", "global", "cat")
CLEVR_QUERIES = ("type", "binary", "reg", "attr")
CLEVR_TYPES = ("binary", "attr", "reg")
CLEVR_VOCABULARY: dict[str, list[str]] = {
    "binary": ["no", "yes"],
    "attr": [
        *("small", "large"),
        *("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"),
        *("cube", "sphere", "cylinder"),
        *("rubber", "metal"),
    ],
    "reg": [str(number) for number in range(20)],
}
