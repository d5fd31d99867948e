"""The root noun phrase: by a plain rule, and by spaCy where it is installed."""

from __future__ import annotations

import pytest
from pytest import MonkeyPatch

from mdetr.data.root_phrase import load_parser, parsed_root, plain_root, root_spans, root_spans_of
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
        ("a parking meter on the sidewalk", ["a", "parking", "meter"]),
        ("the back of a car", ["the", "back"]),
    ],
)
def test_plain_rule(text: str, words: list[str]) -> None:
    assert _words(text, plain_root(text)) == words


def test_spacy_finds_what_the_release_has() -> None:
    parser = load_parser()
    assert parser is not None, "spaCy and its English model belong to the development requirements"
    for text, expected in {
        "the big brown horse with a rider": ["the", "big", "brown", "horse"],
        "woman on left": ["woman on left"],
        "bear-shaped cookie": ["bear-shaped", "cookie"],
        "guy holding a frisbee": ["guy"],
    }.items():
        spans = consolidate_spans(parsed_root(parser(text)) or [(0, len(text))], text)
        assert _words(text, list(spans)) == expected


@pytest.mark.parametrize("parsed", [True, False])
def test_many_texts_are_parsed_like_each(parsed: bool, monkeypatch: MonkeyPatch) -> None:
    if not parsed:
        monkeypatch.setattr("mdetr.data.root_phrase.load_parser", lambda: None)
    texts = ["the big brown horse with a rider", "left", "guy holding a frisbee"]
    assert root_spans_of(texts) == [root_spans(text) for text in texts]
    assert root_spans_of(texts)[1] == ((0, 4),)
    assert root_spans_of([]) == []
