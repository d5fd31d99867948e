"""Tests of finding phrases: in any script, however letters are composed and words are spaced."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdetr.data.phrase_search import find_phrase


@pytest.mark.parametrize(
    ("phrase", "text", "expected"),
    [
        ("a cat", "two cats and a Cat", (13, 18)),
        ("red cube", "a red_cube", (2, 10)),
        ("light", "a traffic_light", (10, 15)),
        ("man", "the man's hat", (4, 7)),
        ("立方体", "红色的立方体在金属球的左边", (3, 6)),
        ("球", "金属球的左边有球", (2, 3)),
        ("立方体", "赤い立方体と金属の球", (2, 5)),
        ("ケーキ", "テーブルのケーキ", (5, 8)),
        ("ลูกบอล", "ลูกบาศก์สีแดงอยู่ทางซ้ายของลูกบอล", (27, 33)),
        ("정육면체", "빨간 정육면체가 있다", (3, 7)),
        ("공", "농구공과 공이 있다", (5, 6)),
        ("구공", "농구공과 공이 있다", (1, 3)),
        ("iPhone", "红色iPhone手机", (2, 8)),
        ("गेंद", "लाल गेंद यहाँ", (4, 8)),
        ("red cube", "a  red  cube", (3, 12)),
        ("red cube", "a red\u00a0cube", (2, 10)),
        ("red cube", "a red\r\ncube", (2, 11)),
        ("red\u3000 cube\n", "a red cube", (2, 10)),
        ("STRASSE", "die Straße", (4, 10)),
        ("❤️", "a ❤️ card", (2, 4)),
        ("a cat's tail", "a cat\u2019s tail", (0, 12)),
        ('"red" cube', "a \u201cred\u201d cube", (2, 12)),
        ("t-shirt", "a t\u2011shirt", (2, 9)),
        ("reddish cube", "a red\u00addish cube", (2, 15)),
        ("red cube", "a red\u200b cube", (2, 11)),
        ("full width", "ｆｕｌｌ\u3000ｗｉｄｔｈ", (0, 10)),
        ("مكعب", "مكع\u0651ب أحمر", (0, 5)),
        ("\u200eקובייה", "אדום קובייה", (5, 11)),
        ("می\u200cخواهم", "میخواهم", (0, 7)),
        ("👩\u200d🚀", "an 👩\u200d🚀 waves", (3, 6)),
    ],
)
def test_a_phrase_is_found_where_it_is(phrase: str, text: str, expected: tuple[int, int]) -> None:
    assert find_phrase(phrase, text) == expected


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("at", "a cat on a mat"),
        ("cat", "two cats"),
        ("cafe", "ein Cafe\u0301"),  # the accent belongs to the letter
        ("куб", "кубик"),
        ("लाल", "लाला"),
        ("가", "각"),
        ("가", "\u1100\u1161\u11a8"),  # the same syllable in parts
        ("redcube", "a red cube"),
        ("", "a cat"),
        (" ", "a cat"),
        ("s", "Straße"),
        ("red", "a red\u00addish cube"),
        ("dish", "a red\u00addish cube"),
        ("👩", "an 👩\u200d🚀 waves"),
        ("\u200b", "a cat"),
    ],
)
def test_parts_of_words_and_characters_are_no_phrase(phrase: str, text: str) -> None:
    assert find_phrase(phrase, text) is None


TEXTS = (
    "ein großer Würfel",
    "빨간 정육면체가 있다",
    "un café à côté",
    "ガラスのボール",
    "quả bóng đỏ ở bên phải",
)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("phrase_form", ["NFC", "NFD"])
def test_composed_and_decomposed_letters_are_the_same(text: str, form: str, phrase_form: str) -> None:
    given_text = unicodedata.normalize(form, text)  # type: ignore[arg-type]
    for word in text.split():
        phrase = unicodedata.normalize(phrase_form, word)  # type: ignore[arg-type]
        found = find_phrase(phrase, given_text)
        assert found is not None
        start, end = found
        assert unicodedata.normalize("NFC", given_text[start:end]) == unicodedata.normalize("NFC", word)


@given(
    st.lists(st.sampled_from(["red", "cube", "Würfel", "立方体", "공"]), min_size=1, max_size=6), st.data()
)
def test_any_words_of_a_text_are_found_in_it(words: list[str], data: st.DataObject) -> None:
    spaces = st.sampled_from([" ", "  ", "\u00a0", "\n", "_"])
    text = "".join(word + data.draw(spaces) for word in words).strip()
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    found = find_phrase(" ".join(words[first : last + 1]), text)
    assert found is not None
    assert text[found[0] : found[1]].replace("_", " ").split() == words[first : last + 1]
