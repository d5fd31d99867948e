"""Contrastive alignment loss between queries and tokens."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from mdetr.losses.matches import Matches


def alignment_loss(
    query_embeddings: Float32[Tensor, "layers batch queries aligned"],
    token_embeddings: Float32[Tensor, "batch tokens aligned"],
    alignment_map: Bool[Tensor, "batch boxes tokens"],
    matches: Matches,
    temperature: float,
) -> Float32[Tensor, "layers"]:
    """Contrastive loss between queries and the tokens of their phrases, in both directions.

    All token positions of the padded batch are negatives, padding included, as in the released models.

    Args:
        query_embeddings: (D, B, Q, C) float32, unit length.
        token_embeddings: (B, L, C) float32, unit length.
        alignment_map: (B, N, L) bool, the tokens of each box's phrase.
        matches: Matched pairs of queries and boxes.
        temperature: Divisor of the similarities; 0.07 in the paper.

    Returns:
        (D,) sums over queries and tokens, averaged over the two directions.

    Source: arXiv 2104.12763, section 2.2.2, equations 1 and 2.
    """
    similarities = torch.einsum("dbqc,blc->dbql", query_embeddings, token_embeddings) / temperature

    # Mark the tokens of each matched query's phrase
    positives = torch.zeros_like(similarities)
    phrase_tokens = alignment_map[matches.text, matches.target].float()  # (M, L)
    positives[matches.layer, matches.text, matches.query] = phrase_tokens

    # Contrast each query with all tokens, and each token with all queries
    queries_to_tokens = _contrast(similarities, positives, dim=-1)
    tokens_to_queries = _contrast(similarities, positives, dim=-2)
    return (queries_to_tokens + tokens_to_queries) / 2


def _contrast(
    similarities: Float[Tensor, "layers batch queries tokens"],
    positives: Float[Tensor, "layers batch queries tokens"],
    dim: int,
) -> Float[Tensor, "layers"]:
    """Sum of logsumexp over `dim` minus the mean of the positives; rows without positives count zero."""
    count = positives.sum(dim)
    mean_positive = (similarities * positives).sum(dim) / (count + 1e-6)
    terms = similarities.logsumexp(dim) - mean_positive
    return torch.where(count > 0, terms, 0.0).sum((1, 2))
