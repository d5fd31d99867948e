"""Question answering: the answer vocabulary, and the heads that classify answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from mdetr.errors import InvalidInputError
from mdetr.model.config import MdetrConfig
from mdetr.model.heads import MLP

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

    @torch.no_grad()
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
            best = answer_logits[UNIFIED].float().softmax(-1).max(-1)
            words = self.vocabulary[UNIFIED]
            ids, probabilities = best.indices.tolist(), best.values.tolist()
            return [(words[answer], None, p) for answer, p in zip(ids, probabilities, strict=True)]

        # The most probable type, then the most probable answer of that type
        best_types = answer_logits[TYPE].float().softmax(-1).max(-1)
        by_type = {name: answer_probabilities(name, answer_logits[name]) for name in self.types}
        answers: list[tuple[str, str | None, float]] = []
        for text, type_id in enumerate(best_types.indices.tolist()):
            name = self.types[type_id]
            probability, answer_id = by_type[name][text].max(-1)
            words = self.vocabulary[name]
            answers.append((words[int(answer_id)], name, float(best_types.values[text] * probability)))
        return answers


def answer_probabilities(
    name: str, logits: Float[Tensor, "batch outputs"]
) -> Float32[Tensor, "batch answers"]:
    """Probabilities of the answers of one head, (B, answers).

    Args:
        name: Name of the head; "binary" has one logit, of its second answer.
        logits: (B, outputs).

    Returns:
        (B, answers), summing to 1.
    """
    if name == BINARY:
        yes = logits.float().sigmoid()
        return torch.cat((1 - yes, yes), dim=-1)
    return logits.float().softmax(-1)


class SumAttention(nn.Module):
    """Attention that sums over box queries, each with a weight between 0 and 1, and helps to count.

    The decoder's attention averages, and an average cannot distinguish two objects from three.

    Source: sigmoid attention (arXiv 2409.04431). Not in the MDETR paper.
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.decoder_attention_heads
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.combine = MLP(2 * size, size, size, num_layers=2)

    def forward(
        self,
        answer_hidden: Float[Tensor, "batch answer_queries hidden"],
        box_hidden: Float[Tensor, "batch queries hidden"],
    ) -> Float[Tensor, "batch answer_queries hidden"]:
        """Add to each query for answers the sum of what the queries for boxes hold.

        Args:
            answer_hidden: The decoder's output for the n queries for answers, (B, n, C).
            box_hidden: Its output for the Q queries for boxes, (B, Q, C).

        Returns:
            The queries for answers, (B, n, C).
        """
        query = self._split_heads(self.query(answer_hidden))
        key = self._split_heads(self.key(box_hidden))
        value = self._split_heads(self.value(box_hidden))

        # Scale before the product, which float16 could not hold otherwise
        similarity = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        # At the start of training the weights of a query add up to about one
        weights = (similarity - math.log(box_hidden.shape[1])).sigmoid()

        # Merge the heads, and combine the sums with the query
        sums = (weights @ value).transpose(1, 2).flatten(2)
        return answer_hidden + self.combine(torch.cat((answer_hidden, sums), dim=-1))

    def _split_heads(
        self, hidden: Float[Tensor, "batch length hidden"]
    ) -> Float[Tensor, "batch heads length _"]:
        return hidden.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class AnswerQueries(nn.Module):
    """Learned queries for answers: one for the type, and one for each type of answer.

    Source: arXiv 2104.12763, section 4.2.3.
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.names = tuple(config.answer_queries or ())
        self.positions = nn.Embedding(len(self.names), config.hidden_size)


class AnswerHeads(AnswerQueries):
    """Queries for answers, and a classifier for each of them.

    Source: arXiv 2104.12763, section 4.2.3. `MdetrConfig.answer_layer` is the decoder layer they read.
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__(config)
        space, size = AnswerSpace.of(config), config.hidden_size
        self.sums = SumAttention(config) if config.answer_sums else None
        self.heads = nn.ModuleDict()
        for name in self.names:
            count = len(space.types) if name == TYPE else len(space.vocabulary[name])
            if name == NUMBER:
                self.heads[_key(name)] = MLP(size, size, count, num_layers=3)
            else:
                self.heads[_key(name)] = nn.Linear(size, 1 if name == BINARY else count)

    def forward(
        self,
        answer_hidden: Float[Tensor, "batch answer_queries hidden"],
        box_hidden: Float[Tensor, "batch queries hidden"],
    ) -> dict[str, Float[Tensor, "batch _"]]:
        """Logits of the answers.

        Args:
            answer_hidden: One decoder layer's output for the n queries for answers, (B, n, C).
            box_hidden: Its output for the Q queries for boxes, (B, Q, C).

        Returns:
            Name of the query -> logits (B, number of answers); "binary" has one logit.
        """
        if self.sums is not None:
            answer_hidden = self.sums(answer_hidden, box_hidden)
        return {
            name: self.heads[_key(name)](answer_hidden[:, index]) for index, name in enumerate(self.names)
        }


def _key(name: str) -> str:
    """Name of a head's module; "type" alone is a method of every module."""
    return f"{name}_head"


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
