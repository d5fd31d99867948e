"""Tokenized texts: the characters of each token, and the tokens of a span of characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING

from mdetr.model.tensors import Tensor
from mdetr.processing.coordinates import Span

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenizedText:
    """A text with its tokens.

    Attributes:
        text: The text.
        token_spans: Characters that each token covers; an empty span for special tokens and padding.
        input_ids: Token ids.
    """

    text: str
    token_spans: Sequence[Span]
    input_ids: Sequence[int]

    @cached_property
    def _token_of_character(self) -> list[int | None]:
        tokens: list[int | None] = [None] * len(self.text)
        for token, (start, end) in reversed(list(enumerate(self.token_spans))):
            tokens[start:end] = [token] * (end - start)
        return tokens

    def first_token(self, characters: Iterable[int]) -> int | None:
        """Return the token of the first of some characters (indices) that belongs to a token, if any."""
        for character in characters:
            if 0 <= character < len(self.text):
                token = self._token_of_character[character]
                if token is not None:
                    return token
        return None


def tokenized_texts(encodings: Sequence[Encoding], texts: Sequence[str]) -> list[TokenizedText]:
    """Combine texts with their encoding, including padding."""
    results: list[TokenizedText] = []
    for text, row in zip(texts, encodings, strict=True):
        covered = zip(row.offsets, row.special_tokens_mask, strict=True)
        spans = [(0, 0) if special else span for span, special in covered]
        results.append(TokenizedText(text, spans, row.ids))
    return results


def unpadded_texts(encodings: Sequence[Encoding], texts: Sequence[str]) -> list[TokenizedText]:
    """Combine texts with their encoding, without padding."""
    results: list[TokenizedText] = []
    for padded, row in zip(tokenized_texts(encodings, texts), encodings, strict=True):
        spans: list[Span] = []
        ids: list[int] = []
        for span, token, is_token in zip(
            padded.token_spans, padded.input_ids, row.attention_mask, strict=True
        ):
            if is_token:
                spans.append(span)
                ids.append(token)
        results.append(TokenizedText(padded.text, spans, ids))
    return results


def read_back(tokenizer: PreTrainedTokenizerBase, input_ids: Tensor) -> list[TokenizedText]:
    """Decode token ids (B, L) to texts as the tokenizer spells them, with the characters of each token."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    texts: list[TokenizedText] = []
    for ids in input_ids.tolist():
        ordinary = [token for token in ids if token not in special]
        # Find what each token adds to the text before it; a token may be only part of a character
        text = _decode(tokenizer, ordinary)
        ends: list[int] = []
        for count in range(len(ordinary) + 1):
            ends.append(_common_length(text, _decode(tokenizer, ordinary[:count])))
        spans = iter(pairwise(ends))
        token_spans = [(0, 0) if token in special else next(spans) for token in ids]
        texts.append(TokenizedText(text, token_spans, ids))
    return texts


def _common_length(a: str, b: str) -> int:
    """Return the length of the common prefix of two texts."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def token_ranges(text: TokenizedText, spans: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Find the first and last token of each span of a text, for soft token targets.

    A span that begins or ends between tokens is shrunk by up to two characters; if that does not help, it is
    left out.

    Args:
        text: The text with its tokens.
        spans: (start, end) in characters, end exclusive.

    Returns:
        First and last token of each span that has tokens.

    Source: arXiv 2104.12763, section 2.2.2; shrinking as in the training of the released models.
    """
    ranges: list[tuple[int, int]] = []
    for start, end in spans:
        first = text.first_token((start, start + 1, start + 2))
        last = text.first_token((end - 1, end - 2, end - 3))
        if first is not None and last is not None:
            ranges.append((first, last))
    return ranges


def exact_token_ranges(text: TokenizedText, spans: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Find the first and last token of each span of a text, for contrastive alignment.

    A span that begins or ends between tokens is left out.

    Args:
        text: The text with its tokens.
        spans: (start, end) in characters, end exclusive.

    Returns:
        First and last token of each span that is left.
    """
    ranges: list[tuple[int, int]] = []
    for start, end in spans:
        first = text.first_token((start,))
        last = text.first_token((end - 1,))
        if first is not None and last is not None:
            ranges.append((first, last))
    return ranges
