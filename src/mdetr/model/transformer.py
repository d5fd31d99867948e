"""The joint transformer's layers: sequences, their positions and padding in, sequences out."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from mdetr.model.config import MdetrConfig


def _attention(config: MdetrConfig) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(
        config.hidden_size, config.attention_heads, dropout=config.dropout, batch_first=True
    )


class FeedForward(nn.Module):
    """Two linear layers with ReLU and dropout between them."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(config.hidden_size, config.feedforward_size)
        self.dropout = nn.Dropout(config.dropout)
        self.linear2 = nn.Linear(config.feedforward_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.linear2(self.dropout(F.relu(self.linear1(hidden))))


class EncoderLayer(GradientCheckpointingLayer):
    """Post-norm self-attention over [image; text]; positions are added to queries and keys only."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.self_attention = _attention(config)
        self.feed_forward = FeedForward(config)
        self.norm1 = nn.LayerNorm(config.hidden_size)
        self.norm2 = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, sequence: Tensor, positions: Tensor, padding_mask: Tensor) -> Tensor:
        """sequence and positions (B, S, C), padding_mask (B, S) true on padding -> (B, S, C)."""
        query = sequence + positions
        update, _ = self.self_attention(
            query, query, sequence, key_padding_mask=padding_mask, need_weights=False
        )
        sequence = self.norm1(sequence + self.dropout(update))
        return self.norm2(sequence + self.dropout(self.feed_forward(sequence)))


class DecoderLayer(GradientCheckpointingLayer):
    """Post-norm self-attention among queries, cross-attention to the joint memory, feed-forward."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.self_attention = _attention(config)
        self.cross_attention = _attention(config)
        self.feed_forward = FeedForward(config)
        self.norm1 = nn.LayerNorm(config.hidden_size)
        self.norm2 = nn.LayerNorm(config.hidden_size)
        self.norm3 = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        target: Tensor,
        query_positions: Tensor,
        memory: Tensor,
        memory_keys: Tensor,
        padding_mask: Tensor,
    ) -> Tensor:
        """target, query_positions (B, Q, C); memory, memory_keys (with positions) (B, S, C) -> (B, Q, C)."""
        query = target + query_positions
        update, _ = self.self_attention(query, query, target, need_weights=False)
        target = self.norm1(target + self.dropout(update))
        update, _ = self.cross_attention(
            target + query_positions, memory_keys, memory, key_padding_mask=padding_mask, need_weights=False
        )
        target = self.norm2(target + self.dropout(update))
        return self.norm3(target + self.dropout(self.feed_forward(target)))
