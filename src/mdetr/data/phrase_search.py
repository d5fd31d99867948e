"""Search for a phrase in a text, tolerant of case, spaces and Unicode forms."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import regex

from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Span

_CHARACTERS = regex.compile(r"\X")  # grapheme clusters: letters with their accents, whole syllables
_NO_SPACES = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}ー々]"
)
_KOREAN = regex.compile(r"\p{Hangul}")
_UNSEEN = regex.compile(r"\p{Cf}+")  # soft hyphens, zero-width spaces, direction marks
_JOINERS = "\u00ad\u200c\u200d\u2060\ufeff"  # those of them that separate no words
# Optional characters: the zero-width non-joiner, the Arabic tatweel, vowel points of Arabic and Hebrew.
_OPTIONAL = regex.compile(r"[\u200c\u0640\u064b-\u0652\u0670\u05b0-\u05bc\u05c1\u05c2\u05c7]")
# Typographic characters -> the characters on a keyboard.
_TYPED = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032\u00b4`", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
)


def find_phrase(phrase: str, text: str) -> Span | None:
    """Find the first occurrence of a phrase in a text.

    The search ignores letter case, Unicode normalization (NFC, NFD, NFKC), the kind and amount of white space
    and underscores between words, invisible characters (soft hyphens), the kind of quotes, apostrophes and
    dashes, and the vowel points of Arabic and Hebrew. A match starts and ends at word boundaries, except in
    scripts without spaces between words (Chinese, Japanese, Thai, ...). In Korean, a match may end inside a
    word, since particles follow, and may start inside a word if there is no other match.

    Args:
        phrase: One or more words.
        text: The text, which may be in any language.

    Returns:
        Start and end (exclusive) in the original text; None if the text does not contain the phrase.
    """
    folded_phrase = _fold(phrase).folded.strip()
    if not folded_phrase:
        return None
    folded_text = _fold(text)
    return folded_text.find(folded_phrase) or folded_text.find(folded_phrase, inside_korean=True)


def locate_phrase(phrase: str, text: str) -> Span:
    """Find a phrase that must be in a text; see `find_phrase`.

    Args:
        phrase: One or more words.
        text: The text, which may be in any language.

    Returns:
        Start and end (exclusive) in the original text.

    Raises:
        InvalidInputError: The text does not contain the phrase, or the phrase is empty.
    """
    span = find_phrase(phrase, text)
    if span is None:
        raise InvalidInputError(f"the phrase {phrase!r} is not in the text {text[:200]!r}")
    return span


@dataclass(frozen=True, slots=True)
class _Folded:
    """Text in normalized form, with the span of the original text that each normalized letter comes from."""

    text: str
    folded: str
    spans: tuple[Span, ...]

    def find(self, folded_phrase: str, inside_korean: bool = False) -> Span | None:
        """Find the first occurrence that consists of whole characters and lies between word boundaries."""
        first = self.folded.find(folded_phrase)
        while first >= 0:
            last = first + len(folded_phrase) - 1
            start, end = self.spans[first][0], self.spans[last][1]

            # Reject a match that starts or ends inside a character that was decomposed
            starts_whole = first == 0 or self.spans[first - 1][1] <= start
            ends_whole = last + 1 == len(self.spans) or self.spans[last + 1][0] >= end
            is_whole = starts_whole and ends_whole

            if is_whole and self._may_begin(start, inside_korean) and self._may_end(end):
                return start, end
            first = self.folded.find(folded_phrase, first + 1)
        return None

    def _may_begin(self, start: int, inside_korean: bool) -> bool:
        if start == 0:
            return True
        before, first = _base_before(self.text, start), self.text[start]
        if _KOREAN.match(before) and _KOREAN.match(first):
            return inside_korean
        return _is_boundary(before, first)

    def _may_end(self, end: int) -> bool:
        if end == len(self.text):
            return True
        last, after = _base_before(self.text, end), self.text[end:].lstrip(_JOINERS)[:1]
        return bool(_KOREAN.match(last)) or _is_boundary(last, after)


def _is_boundary(before: str, after: str) -> bool:
    """Check whether one word may end and another begin between two letters."""
    if not (before.isalnum() and after.isalnum()):
        return True
    return bool(_NO_SPACES.match(before) or _NO_SPACES.match(after)) or (
        bool(_KOREAN.match(before)) != bool(_KOREAN.match(after))
    )


def _base_before(text: str, end: int) -> str:
    """Return the letter before a position, without its combining marks."""
    index = end - 1
    while index > 0 and (text[index] in _JOINERS or unicodedata.category(text[index]).startswith("M")):
        index -= 1
    return text[index]


@lru_cache(maxsize=64)
def _fold(text: str) -> _Folded:
    """Normalize a text: fold case, decompose letters, simplify punctuation, merge spaces and underscores."""
    letters: list[str] = []
    spans: list[Span] = []
    for match in _CHARACTERS.finditer(text):
        character = match[0].translate(_TYPED)
        if _UNSEEN.fullmatch(character):
            continue

        # Merge white space and underscores into one space
        if character.isspace() or character == "_":
            if letters and letters[-1] == " ":
                spans[-1] = spans[-1][0], match.end()
                continue
            character = " "

        # Every letter of the decomposed character comes from the span of the whole character
        decomposed = unicodedata.normalize("NFKD", character)
        for letter in _OPTIONAL.sub("", unicodedata.normalize("NFKD", decomposed.casefold())):
            letters.append(letter)
            spans.append(match.span())
    return _Folded(text, "".join(letters), tuple(spans))
