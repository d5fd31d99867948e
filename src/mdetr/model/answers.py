"""Question answering: the queries and the heads that classify answers."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdetr.model.answer_space import BINARY, NUMBER, TYPE, AnswerSpace
from mdetr.model.config import MdetrConfig
from mdetr.model.heads import MLP


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
