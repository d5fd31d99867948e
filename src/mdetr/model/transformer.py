"""Encoder and decoder layers of the joint transformer."""

from __future__ import annotations

from typing import cast

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from mdetr.model.config import MdetrConfig


def _attention(config: MdetrConfig, num_heads: int) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(config.hidden_size, num_heads, dropout=config.dropout, batch_first=True)


class FeedForward(nn.Module):
    """Two linear layers with ReLU and dropout between them."""

    def __init__(self, hidden_size: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(hidden_size, ffn_dim)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(ffn_dim, hidden_size)

    def forward(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        return self.linear2(self.dropout(F.relu(self.linear1(hidden))))


class EncoderLayer(GradientCheckpointingLayer):
    """Self-attention over image and text as one sequence; positions are added to queries and keys only."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.self_attention = _attention(config, config.encoder_attention_heads)
        self.feed_forward = FeedForward(config.hidden_size, config.encoder_ffn_dim, config.dropout)
        self.norm1 = nn.LayerNorm(config.hidden_size)
        self.norm2 = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.norm_first = config.transformer_norm == "pre"

    def forward(
        self,
        sequence: Float[Tensor, "batch length hidden"],
        positions: Float[Tensor, "batch length hidden"],
        padding_mask: Bool[Tensor, "batch length"],
    ) -> Float[Tensor, "batch length hidden"]:
        """Update sequence (B, S, C) with positions (B, S, C); padding_mask (B, S) is true on padding."""
        if self.norm_first:
            sequence = sequence + self._attend(self.norm1(sequence), positions, padding_mask)
            return sequence + self.dropout(self.feed_forward(self.norm2(sequence)))
        sequence = self.norm1(sequence + self._attend(sequence, positions, padding_mask))
        return self.norm2(sequence + self.dropout(self.feed_forward(sequence)))

    def _attend(
        self,
        sequence: Float[Tensor, "batch length hidden"],
        positions: Float[Tensor, "batch length hidden"],
        padding_mask: Bool[Tensor, "batch length"],
    ) -> Float[Tensor, "batch length hidden"]:
        query = sequence + positions
        update, _ = self.self_attention(
            query, query, sequence, key_padding_mask=padding_mask, need_weights=False
        )
        return self.dropout(update)


class DecoderLayer(GradientCheckpointingLayer):
    """Self-attention among queries, cross-attention to the joint memory, feed-forward."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.self_attention = _attention(config, cast(int, config.decoder_attention_heads))
        self.cross_attention = _attention(config, cast(int, config.decoder_attention_heads))
        self.feed_forward = FeedForward(config.hidden_size, cast(int, config.decoder_ffn_dim), config.dropout)
        self.norm1 = nn.LayerNorm(config.hidden_size)
        self.norm2 = nn.LayerNorm(config.hidden_size)
        self.norm3 = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.norm_first = config.transformer_norm == "pre"

    def forward(
        self,
        target: Float[Tensor, "batch queries hidden"],
        query_positions: Float[Tensor, "batch queries hidden"],
        memory: Float[Tensor, "batch length hidden"],
        memory_keys: Float[Tensor, "batch length hidden"],
        padding_mask: Bool[Tensor, "batch length"],
        query_mask: Bool[Tensor, "queries queries"] | None = None,
    ) -> Float[Tensor, "batch queries hidden"]:
        """Update queries (B, Q, C).

        Args:
            target: (B, Q, C), the queries.
            query_positions: (B, Q, C), positions of the queries.
            memory: (B, S, C), the joint memory.
            memory_keys: (B, S, C), the memory with its positions added.
            padding_mask: (B, S) bool, true on padding.
            query_mask: (Q, Q) bool, true where a query (row) must not attend to another (column); None if
                all attend to all.

        Returns:
            (B, Q, C).
        """
        if self.norm_first:
            target = target + self._attend(self.norm1(target), query_positions, query_mask)
            target = target + self._cross_attend(
                self.norm2(target), query_positions, memory, memory_keys, padding_mask
            )
            return target + self.dropout(self.feed_forward(self.norm3(target)))
        target = self.norm1(target + self._attend(target, query_positions, query_mask))
        target = self.norm2(
            target + self._cross_attend(target, query_positions, memory, memory_keys, padding_mask)
        )
        return self.norm3(target + self.dropout(self.feed_forward(target)))

    def _attend(
        self,
        target: Float[Tensor, "batch queries hidden"],
        positions: Float[Tensor, "batch queries hidden"],
        query_mask: Bool[Tensor, "queries queries"] | None,
    ) -> Float[Tensor, "batch queries hidden"]:
        query = target + positions
        update, _ = self.self_attention(query, query, target, attn_mask=query_mask, need_weights=False)
        return self.dropout(update)

    def _cross_attend(
        self,
        target: Float[Tensor, "batch queries hidden"],
        positions: Float[Tensor, "batch queries hidden"],
        memory: Float[Tensor, "batch length hidden"],
        memory_keys: Float[Tensor, "batch length hidden"],
        padding_mask: Bool[Tensor, "batch length"],
    ) -> Float[Tensor, "batch queries hidden"]:
        update, _ = self.cross_attention(
            target + positions, memory_keys, memory, key_padding_mask=padding_mask, need_weights=False
        )
        return self.dropout(update)
