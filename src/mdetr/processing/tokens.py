"""Texts with their tokens: which characters a token covers, and which tokens a span of characters has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, takewhile

from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerBase

from mdetr.processing.coordinates import Span


@dataclass(frozen=True)
class TokenizedText:
    """A text with its tokens.

    Attributes:
        text: The text.
        token_spans: The characters that each token covers: none for special tokens and padding.
        input_ids: The tokens.
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
        """The token of the first of some characters, given by their places, that has one."""
        for character in characters:
            if 0 <= character < len(self.text):
                token = self._token_of_character[character]
                if token is not None:
                    return token
        return None


def tokenized_texts(encoding: BatchEncoding, texts: Sequence[str]) -> list[TokenizedText]:
    """The texts of an encoding with their tokens, padding included."""
    results: list[TokenizedText] = []
    for text, row in zip(texts, encoding.encodings or (), strict=True):
        covered = zip(row.offsets, row.special_tokens_mask, strict=True)
        spans = [(0, 0) if special else span for span, special in covered]
        results.append(TokenizedText(text, spans, row.ids))
    return results


def unpadded_texts(encoding: BatchEncoding, texts: Sequence[str]) -> list[TokenizedText]:
    """The texts of an encoding with their tokens, without padding."""
    results: list[TokenizedText] = []
    for padded, row in zip(tokenized_texts(encoding, texts), encoding.encodings or (), strict=True):
        kept = [place for place, is_token in enumerate(row.attention_mask) if is_token]
        spans, ids = (
            [padded.token_spans[place] for place in kept],
            [padded.input_ids[place] for place in kept],
        )
        results.append(TokenizedText(padded.text, spans, ids))
    return results


def read_back(tokenizer: PreTrainedTokenizerBase, input_ids: Tensor) -> list[TokenizedText]:
    """The texts that token ids (B, L) stand for, as the tokenizer spells them."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    texts: list[TokenizedText] = []
    for ids in input_ids.tolist():
        ordinary = [token for token in ids if token not in special]
        # What each token adds to the text before it; a token may hold a part of a character only
        text = _decode(tokenizer, ordinary)
        ends = [
            _common_length(text, _decode(tokenizer, ordinary[:count])) for count in range(len(ordinary) + 1)
        ]
        spans = iter(pairwise(ends))
        of_tokens = [(0, 0) if token in special else next(spans) for token in ids]
        texts.append(TokenizedText(text, of_tokens, ids))
    return texts


def _common_length(a: str, b: str) -> int:
    """How many characters two texts have in common from their start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def token_ranges(text: TokenizedText, spans: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """The first and last token of each span of a text, for soft tokens.

    A span that begins or ends between tokens is moved by one or two characters to its inside; one that still
    does so is left out.

    Source: arXiv 2104.12763, section 2.2.2; the moves are those that the published models were trained with.
    """
    ranges: list[tuple[int, int]] = []
    for start, end in spans:
        first = text.first_token((start, start + 1, start + 2))
        last = text.first_token((end - 1, end - 2, end - 3))
        if first is not None and last is not None:
            ranges.append((first, last))
    return ranges


def exact_token_ranges(text: TokenizedText, spans: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """The first and last token of each span of a text, for alignment.

    A span that begins or ends between tokens is left out.
    """
    ranges: list[tuple[int, int]] = []
    for start, end in spans:
        first = text.first_token((start,))
        last = text.first_token((end - 1,))
        if first is not None and last is not None:
            ranges.append((first, last))
    return ranges
