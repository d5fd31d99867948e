"""Words for left and right in many languages, and their exchange for mirrored images."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, get_args

Language = Literal["de", "en", "es", "fr", "it", "ja", "nl", "pt", "ru", "zh"]
"""ISO 639-1 codes of the languages whose side words can be swapped."""

LANGUAGES: tuple[Language, ...] = get_args(Language)


@dataclass(frozen=True, slots=True)
class Swap:
    """Replacement in a text of a mirrored image.

    Attributes:
        start: First character to replace.
        end: Exclusive end of the characters to replace.
        text: Replacement.
    """

    start: int
    end: int
    text: str


def mirror_words(text: str, languages: Iterable[Language]) -> list[Swap] | None:
    """Find the replacements that make a text true of the mirrored image.

    Args:
        text: Any text, in any language.
        languages: Languages whose side words may be swapped.

    Returns:
        Replacements in the order of the text, without overlaps; an empty list if the text has no side word.
        None if it has a side word that cannot be swapped: of another language, or without a known opposite.
    """
    hits = _find_hits(text)

    # Give up on a side word that is spelled with decomposed characters
    if not unicodedata.is_normalized("NFC", text):
        for language, composed in _find_hits(unicodedata.normalize("NFC", text)).items():
            if len(hits[language]) != len(composed):
                return None

    # Give up on a side word that no hit with a known opposite covers
    swappable: list[_Hit] = []
    for language in set(languages):
        swappable.extend(hit for hit in hits[language] if hit.other is not None)
    for hit in chain.from_iterable(hits.values()):
        is_covered = any(known.start <= hit.start and hit.end <= known.end for known in swappable)
        if not is_covered and hit.other != text[hit.start : hit.end]:
            return None

    # Keep the longest of overlapping hits, and drop the false hits at the end only: they hide shorter ones
    swappable.sort(key=lambda hit: (hit.start, -hit.end, hit.other != text[hit.start : hit.end]))
    swaps: list[Swap] = []
    for hit in swappable:
        if hit.other is not None and (not swaps or hit.start >= swaps[-1].end):
            swaps.append(Swap(hit.start, hit.end, hit.other))
    return [swap for swap in swaps if swap.text != text[swap.start : swap.end]]


@dataclass(frozen=True, slots=True)
class _Hit:
    """Characters that may name a side, with the word for the opposite side.

    Attributes:
        start: First character.
        end: Exclusive end.
        other: The opposite word; None if unknown. A false hit, such as "right angle", is its own opposite.
    """

    start: int
    end: int
    other: str | None


def _find_hits(text: str) -> dict[str, list[_Hit]]:
    return {language: list(find(text)) for language, find in _FINDERS.items()}


_BEGIN, _END = (
    r"(?<![^\W_])",
    r"(?![^\W_])",
)  # no letter or digit next to it; "left_cube" contains the word "left"


def _finder(
    pairs: Iterable[tuple[str, str]], *, stays: str = "", unknown: str = "", has_words: bool = True
) -> Callable[[str], Iterator[_Hit]]:
    """Make a function that finds the side words of a language.

    Args:
        pairs: Pairs of opposite words, in lower case.
        stays: Pattern of words that look like side words but also hold for the mirrored image.
        unknown: Pattern of words that may name a side but have no known opposite.
        has_words: Whether spaces separate words.

    Returns:
        Function from a text to the hits in it.
    """
    opposites: dict[str, str] = {}
    for left, right in pairs:
        opposites[left], opposites[right] = right, left

    # Try longer words first
    words = "|".join(map(re.escape, sorted(opposites, key=len, reverse=True)))
    parts = [f"(?P<stays>{stays})"] if stays else []
    parts += [f"(?P<word>{words})"]
    parts += [f"(?P<unknown>{unknown})"] if unknown else []
    # Each alternative has its own word boundaries: if a short one has none, the longer ones are still tried.
    pattern = "|".join(f"{_BEGIN}{part}{_END}" if has_words else part for part in parts)
    compiled = re.compile(pattern, re.IGNORECASE)

    def find(text: str) -> Iterator[_Hit]:
        for match in compiled.finditer(text):
            other = opposites.get(match[0].lower()) if match.lastgroup == "word" else None
            if match.lastgroup == "stays":
                yield _Hit(match.start(), match.end(), match[0])
            else:
                yield _Hit(match.start(), match.end(), other and _with_case_of(match[0], other))

    return find


def _with_case_of(word: str, other: str) -> str:
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other.capitalize() if word[0].isupper() else other


def _inflect(left: str, right: str, endings: str) -> list[tuple[str, str]]:
    """Add each of the space-separated endings to two stems; "-" stands for no ending."""
    stripped = ("" if ending == "-" else ending for ending in endings.split())
    return [(left + ending, right + ending) for ending in stripped]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_GERMAN_ENDINGS = "e en er es em"
_GERMAN = [
    *_inflect("link", "recht", _GERMAN_ENDINGS + " erhand"),
    *_inflect("links", "rechts", "- außen aussen herum oben unten vorne vorn hinten"),
    *_inflect("linksseitig", "rechtsseitig", "- " + _GERMAN_ENDINGS),
    *_inflect("linksstehend", "rechtsstehend", _GERMAN_ENDINGS),
]
_DUTCH = [
    *_inflect(
        "links", "rechts", "- e af om boven bovenin onder onderin voor voorin achter achterin midden buiten"
    ),
    *_inflect(
        "linker",
        "rechter",
        "- kant zijde hand arm been voet oog oor schouder helft deel hoek rij boven bovenhoek onder "
        "onderhoek bovenkant onderkant benedenhoek voorpoot achterpoot",
    ),
]
_RUSSIAN = [
    *_inflect("лев", "прав", "ый ая ое ые ого ой ом ую ою ым ыми ых ому ее ей"),
    *_inflect("левосторонн", "правосторонн", "ий яя ее ие его ей ем юю им ими их ему"),
    *[("слева", "справа"), ("влево", "вправо"), ("налево", "направо")],
]

_FRENCH_WORD = re.compile(
    rf"{_BEGIN}(?:(?P<left>gauche)(?P<left_plural>s?)|(?P<right>droit)(?P<feminine>e?)(?P<right_plural>s?)"
    rf"|gauch[eè]re?s?|droiti[eè]re?s?){_END}",
    re.IGNORECASE,
)
_FRENCH_BEFORE_NOUN = _words("à a la de sa ma ta leur votre notre cette extrême")
_FRENCH_BETWEEN = _words("supérieur supérieure inférieur inférieure avant arrière")
_FRENCH_MASCULINE = _words(
    "bord bras coin coude côté feu flanc gant genou montant mollet mur œil oeil pan panneau phare pied pouce "
    "poing poteau quart rétroviseur sein sourcil talon tiers volet bords coins côtés"
)
_FRENCH_FEMININE = _words(
    "aile bande botte bordure chaussette chaussure cheville colonne cuisse extrémité face fenêtre file "
    "hanche jambe joue main manche moitié narine oreille page paroi part partie patte paupière poche "
    "porte portière rangée rive roue voie zone épaule"
)


def _find_french(text: str) -> Iterator[_Hit]:
    """Find French side words; adjectives agree with the noun before: "gauche" becomes "droit" or "droite"."""
    for match in _FRENCH_WORD.finditer(text):
        other = _french_opposite(match, re.findall(r"[^\W\d_]+", text[: match.start()].lower()))
        if text.strip().lower() in ("gauche", "droite"):
            other = "droite" if match["left"] else "gauche"
        yield _Hit(match.start(), match.end(), other and _with_case_of(match[0], other))


def _french_opposite(match: re.Match[str], before: Sequence[str]) -> str | None:
    if not (match["left"] or match["right"]) or not before:
        return None
    plural = match["left_plural"] or match["right_plural"] or ""
    is_feminine = bool(match["left"] or match["feminine"])  # as its form may be
    if before[-1] in _FRENCH_BEFORE_NOUN and is_feminine and not plural:
        return "droite" if match["left"] else "gauche"
    noun = next((word for word in reversed(before) if word not in _FRENCH_BETWEEN), "")
    if noun in _FRENCH_MASCULINE and not match["feminine"]:
        return ("droit" if match["left"] else "gauche") + plural
    if noun in _FRENCH_FEMININE and is_feminine:
        return ("droite" if match["left"] else "gauche") + plural
    return None


_ROMANCE_ENDINGS = "a o as os"
# Words that name a side in languages whose words are not swapped: Arabic, Catalan, Czech, Danish, Finnish,
# Greek, Hebrew, Hindi, Hungarian, Indonesian, Korean, Norwegian, Polish, Romanian, Swedish, Thai, Turkish,
# Ukrainian, Vietnamese.
_OTHER_WORDS = "|".join(
    (
        r"esquerr\w*|dret[ae]?s?",
        r"vlevo|vpravo|nalevo|napravo|zleva|zprava|doleva|doprava|(?:lev|prav)(?:ý|á|é|ého|ém|ou|ým)",
        r"venstre|højre|høyre|vänst\w+|höger\w*|högra",
        r"vasen|vasem\w+|oikea\w*",
        r"αριστερ\w*|δεξι\w*",
        r"balra|bal\s?oldal\w*|jobbra|jobb\s?oldal\w*",
        r"kiri|kanan",
        r"lew(?:y|a|e|o|ą|ego|ej|emu|ym|ych|ymi)|praw(?:y|a|e|o|ą|ego|ej|emu|ym|ych|ymi)",
        r"stâng\w*|dreapt\w*",
        r"sol(?:da|daki|dan|unda|undaki)|sol(?=\s(?:üst|alt|taraf|el|yan|kol|köşe))",
        r"sağ(?:da|daki|dan|a|ında|ındaki)?",
        r"(?:лів|прав)(?:ий|а|е|і|ого|ої|ому|ій|ою|у|их|им|ими)",
        r"ліворуч|праворуч|зліва|вліво",
        r"trái|phải",
    )
)
_OTHER_PARTS = "|".join(
    (
        r"يسار|يسرى|أيسر|الأيسر|يمين|يمنى|أيمن",
        r"שמאל|ימין|ימנ",
        r"बाय|बाए|बाएँ|बाईं|दाय|दाए|दाईं|दाहिन",
        r"왼|오른|좌측|우측",
        r"ซ้าย|ขวา",
    )
)


def _find_others(text: str) -> Iterator[_Hit]:
    for match in _OTHERS.finditer(text):
        yield _Hit(match.start(), match.end(), None)


_OTHERS = re.compile(f"{_BEGIN}(?:{_OTHER_WORDS}){_END}|{_OTHER_PARTS}", re.IGNORECASE)
_FINDERS: Mapping[str, Callable[[str], Iterator[_Hit]]] = {
    "de": _finder(_GERMAN, stays=r"rechte[nrms]?(?=\s+winkel)", unknown=r"links\w+|rechts\w+"),
    "en": _finder(
        _inflect("left", "right", "- most hand handed ward wards side"),
        stays=r"right(?=[\s-]+(?:angle|triangle))",
        unknown=r"left(?:y|ies|ism|ist)|right(?:y|ies)|(?:left|right)side\w+",
    ),
    "es": _finder(
        _inflect("izquierd", "derech", _ROMANCE_ENDINGS),
        unknown=r"izq|izqd[ao]|dch[ao]|zurd[ao]s?|diestr[ao]s?",
    ),
    "fr": _find_french,
    "it": _finder(_inflect("sinistr", "destr", "a o e i"), unknown=r"sx|dx|mancin[aoei]"),
    "ja": _finder(
        [("左", "右"), ("ひだり", "みぎ"), ("ヒダリ", "ミギ")],
        stays="左右|右往左往|左官|座右",
        has_words=False,
    ),
    "nl": _finder(_DUTCH, unknown=r"(?:links|rechts|linker|rechter)\w+"),
    "pt": _finder(_inflect("esquerd", "direit", _ROMANCE_ENDINGS), unknown=r"canhot[ao]s?|destr[ao]s?"),
    "ru": _finder(_RUSSIAN, unknown=r"лево|право|левш\w+|правш\w+"),
    "zh": _finder([("左", "右")], stays="左右", has_words=False),
    "others": _find_others,
}
