"""Tests of words for left and right: which are swapped, which stay, and which texts are not understood."""

from __future__ import annotations

import unicodedata

import pytest

from mdetr.data.side_words import LANGUAGES, Language, mirror_words

PAIRS: list[tuple[Language, str, str]] = [
    ("de", "der linke Würfel, links oben", "der rechte Würfel, rechts oben"),
    ("de", "einen linken, am linken, ein linkes, linker", "einen rechten, am rechten, ein rechtes, rechter"),
    ("de", "LINKS, linkerhand und linksseitig", "RECHTS, rechterhand und rechtsseitig"),
    ("en", "the leftmost, left-hand, Leftward one", "the rightmost, right-hand, Rightward one"),
    ("en", "the left_cube", "the right_cube"),
    ("es", "la esfera izquierda y el cubo izquierdo", "la esfera derecha y el cubo derecho"),
    ("es", "los izquierdos, las izquierdas", "los derechos, las derechas"),
    ("fr", "la boule à gauche, le cube de gauche", "la boule à droite, le cube de droite"),
    ("fr", "le côté gauche, la main gauche", "le côté droit, la main droite"),
    ("fr", "dans le coin supérieur gauche", "dans le coin supérieur droit"),
    ("fr", "les pieds, sur sa gauche", "les pieds, sur sa droite"),
    ("it", "il cubo sinistro a sinistra", "il cubo destro a destra"),
    ("it", "le sfere sinistre, i cubi sinistri", "le sfere destre, i cubi destri"),
    ("pt", "o cubo esquerdo à esquerda", "o cubo direito à direita"),
    ("nl", "de linker kubus, linksboven in de linkerhoek", "de rechter kubus, rechtsboven in de rechterhoek"),
    ("ru", "левый куб слева от левой сферы", "правый куб справа от правой сферы"),
    ("ru", "Налево, влево; левую, левыми", "Направо, вправо; правую, правыми"),
    ("zh", "左边的球在右侧", "右边的球在左侧"),
    ("ja", "左の球、ひだりがわ", "右の球、みぎがわ"),
]


def _mirror(text: str, *languages: Language) -> str | None:
    swaps = mirror_words(text, languages)
    if swaps is None:
        return None
    for swap in reversed(swaps):
        text = text[: swap.start] + swap.text + text[swap.end :]
    return text


@pytest.mark.parametrize(("language", "text", "expected"), PAIRS)
def test_words_for_sides_become_their_opposites_and_back(
    language: Language, text: str, expected: str
) -> None:
    assert _mirror(text, language) == expected
    assert _mirror(expected, language) == text
    assert _mirror(text, *LANGUAGES) == expected


@pytest.mark.parametrize(("language", "text", "expected"), PAIRS)
def test_a_text_that_names_sides_is_not_understood_without_its_language(
    language: Language, text: str, expected: str
) -> None:
    assert mirror_words(text, ()) is None
    assert mirror_words(text, ("en",) if language != "en" else ("de",)) is None


@pytest.mark.parametrize(
    "text",
    [
        "bright copyright, cleft, rightful",
        "a right angle and a right-angled triangle",
        "ein Rechteck, Gerechtigkeit",
        "el sol, un gauchito",
        "правда, правило, лев, главный",
        "左右两边都有球",
        "左右に球がある",
        "",
    ],
)
def test_what_only_looks_like_a_side_stays(text: str) -> None:
    assert mirror_words(text, ()) == []
    assert mirror_words(text, LANGUAGES) == []


@pytest.mark.parametrize(
    "text",
    [
        "빨간 공이 왼쪽에 있다",
        "الكرة على اليسار",
        "kula po lewej stronie",
        "bollen till vänster",
        "bóng ở bên trái",
        "गेंद बाईं ओर है",
        "ลูกบอลอยู่ทางซ้าย",
        "topun solunda",
        "le cube droit",
        "un arbre droit",
        "les gauchers",
        "Linksverkehr",
        "die rechtsdrehende Schraube",
        "de rechterlijke macht",
        "arriba a la izq.",
        "a lefty",
    ],
)
def test_a_side_that_cannot_be_swapped_is_told_in_every_language(text: str) -> None:
    assert mirror_words(text, ()) is None
    assert mirror_words(text, LANGUAGES) is None


def test_what_is_a_side_in_another_language_only_stays_where_the_language_is_known() -> None:
    assert mirror_words("ein rechter Winkel", ("de",)) == []
    assert mirror_words("ein rechter Winkel", ("de", "nl")) == []
    assert mirror_words("ein rechter Winkel", ()) is None  # "rechter" is Dutch too


def test_words_whose_letters_are_not_composed_are_not_understood() -> None:
    text = "левый куб"
    decomposed = unicodedata.normalize("NFD", text)
    assert decomposed != text
    assert mirror_words(decomposed, ("ru",)) is None
    assert _mirror(unicodedata.normalize("NFD", "der Würfel links"), "de") is not None


def test_one_unknown_word_is_enough() -> None:
    assert _mirror("left of the ball, à gauche", "en") is None
    assert _mirror("left of the ball, à gauche", "en", "fr") == "right of the ball, à droite"
