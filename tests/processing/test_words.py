"""The words of a text, in any script."""

from __future__ import annotations

import pytest

from mdetr.processing.words import Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the tall man, left", ["the", "tall", "man", ",", "left"]),
        ("the man's red-haired dogs' well-lit", ["the", "man", "'s", "red-haired", "dogs", "'", "well-lit"]),
        ("don't x_y 3.14 1,000 2nd -", ["don't", "x_y", "3.14", "1,000", "2nd", "-"]),
        ("naïve nai\u0308ve co\u00adop", ["naïve", "nai\u0308ve", "co\u00adop"]),
        (
            "велосипед הכלב हिन्दी 고양이 می\u200cخواهم",
            ["велосипед", "הכלב", "हिन्दी", "고양이", "می\u200cخواهم"],
        ),
        ("红色cat か\u309a ไทย", ["红", "色", "cat", "か\u309a", "ไ", "ท", "ย"]),
        ("👩\u200d🚀🇩🇪!", ["👩\u200d🚀", "🇩🇪", "!"]),
    ],
)
def test_words_of_many_scripts(text: str, words: list[str]) -> None:
    split = Words(text)
    found = {split.expand(place, place + 1) for place, character in enumerate(text) if character.strip()}
    assert [text[start:end] for start, end in sorted(found)] == words


def test_characters_grow_to_the_words_that_they_touch() -> None:
    assert Words("a red cube and").expand(3, 8) == (2, 10)  # "ed cu"
