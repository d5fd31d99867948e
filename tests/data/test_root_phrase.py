"""The root noun phrase: by a plain rule, and by spaCy where it is installed."""

from __future__ import annotations

import pytest

from mdetr.data.root_phrase import load_parser, parsed_root, plain_root
from mdetr.data.spans import consolidate_spans


def _words(text: str, spans: list[tuple[int, int]]) -> list[str]:
    return [text[start:end] for start, end in spans]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("blue car behind the bus", ["blue", "car"]),
        ("person sitting, back to camera", ["person"]),
        ("person, back to camera", ["person"]),
        ("tallest giraffe", []),
        ("left", []),
        ("on the left", []),
        ("king in red", ["king"]),
    ],
)
def test_plain_rule(text: str, words: list[str]) -> None:
    assert _words(text, plain_root(text)) == words


def test_spacy_finds_what_the_release_has() -> None:
    pytest.importorskip("spacy")
    parser = load_parser()
    if parser is None:
        pytest.skip("spaCy is here without its English model")
    for text, expected in {
        "the big brown horse with a rider": ["the", "big", "brown", "horse"],
        "woman on left": ["woman on left"],
        "bear-shaped cookie": ["bear-shaped", "cookie"],
        "guy holding a frisbee": ["guy"],
    }.items():
        spans = consolidate_spans(parsed_root(parser(text)) or [(0, len(text))], text)
        assert _words(text, list(spans)) == expected
