"""Text encoder, and the projection of its features."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel


def make_text_encoder(text_config: PreTrainedConfig) -> PreTrainedModel:
    """Any Hugging Face text encoder, with random weights and without its unused pooler.

    Args:
        text_config: Configuration of the encoder.

    Returns:
        The encoder, whose `last_hidden_state` is (B, L, text size).
    """
    encoder = AutoModel.from_config(text_config)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


class TextProjection(nn.Module):
    """Projection of text features to the joint transformer: linear layer, LayerNorm and dropout.

    Args:
        text_size: Features of the text encoder.
        hidden_size: Features of the joint transformer.
        dropout: Probability of the dropout.
    """

    def __init__(self, text_size: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(text_size, hidden_size)
        self.layer_norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, hidden_states: Float[Tensor, "batch tokens text_hidden"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        return self.dropout(self.layer_norm(self.linear(hidden_states)))
