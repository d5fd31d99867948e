"""Search for a phrase in a text, tolerant of case, spaces and Unicode forms."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import regex

from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Span

_CHARACTERS = regex.compile(r"\X")  # as people count them: letters with their accents, whole syllables
_NO_SPACES = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}ー々]"
)
_KOREAN = regex.compile(r"\p{Hangul}")
_UNSEEN = regex.compile(r"\p{Cf}+")  # soft hyphens, spaces without width, marks of the direction of writing
_JOINERS = "\u00ad\u200c\u200d\u2060\ufeff"  # those of them that part no words
# What may be left out: a letter that joins no others, the points that stand for vowels in Arabic and Hebrew.
_OPTIONAL = regex.compile(r"[\u200c\u0640\u064b-\u0652\u0670\u05b0-\u05bc\u05c1\u05c2\u05c7]")
# As programs write them of their own accord -> as people type them.
_TYPED = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032\u00b4`", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
)


def find_phrase(phrase: str, text: str) -> Span | None:
    """Find the first occurrence of some words in a text.

    Letter case, the composition and the width of letters and syllables (NFC, NFD, NFKC), the kind and amount
    of white space and underscores between words, what cannot be seen (soft hyphens), the kind of quotes,
    apostrophes and dashes, and the vowel points of Arabic and Hebrew make no difference. A phrase begins and
    ends with whole words, but anywhere in scripts that set none apart (Chinese, Japanese, Thai, ...). Korean
    words may go on behind it, as they take particles, and begin before it where no word begins with it.

    Args:
        phrase: One or more words.
        text: The text, which may be in any language.

    Returns:
        Start and end (exclusive) in the text as it is given; None if it does not have the phrase.
    """
    wanted = _fold(phrase).folded.strip()
    if not wanted:
        return None
    folded = _fold(text)
    return folded.find(wanted) or folded.find(wanted, inside_korean=True)


def locate_phrase(phrase: str, text: str) -> Span:
    """Find a phrase that has to be in a text; see `find_phrase`.

    Raises:
        InvalidInputError: The text does not have the phrase, or the phrase has no words.
    """
    found = find_phrase(phrase, text)
    if found is None:
        raise InvalidInputError(f"the phrase {phrase!r} is not in the text {text[:200]!r}")
    return found


@dataclass(frozen=True, slots=True)
class _Folded:
    """A text in the form in which texts are compared, and the characters that each letter stands for."""

    text: str
    folded: str
    spans: tuple[Span, ...]

    def find(self, wanted: str, inside_korean: bool = False) -> Span | None:
        """The first occurrence that consists of whole characters and begins and ends where words may."""
        place = self.folded.find(wanted)
        while place >= 0:
            last = place + len(wanted) - 1
            start, end = self.spans[place][0], self.spans[last][1]
            is_whole = (place == 0 or self.spans[place - 1][1] <= start) and (
                last + 1 == len(self.spans) or self.spans[last + 1][0] >= end
            )
            if is_whole and self._may_begin(start, inside_korean) and self._may_end(end):
                return start, end
            place = self.folded.find(wanted, place + 1)
        return None

    def _may_begin(self, start: int, inside_korean: bool) -> bool:
        if start == 0:
            return True
        before, first = _base_before(self.text, start), self.text[start]
        if _KOREAN.match(before) and _KOREAN.match(first):
            return inside_korean
        return _may_part(before, first)

    def _may_end(self, end: int) -> bool:
        if end == len(self.text):
            return True
        last, after = _base_before(self.text, end), self.text[end:].lstrip(_JOINERS)[:1]
        return bool(_KOREAN.match(last)) or _may_part(last, after)


def _may_part(before: str, after: str) -> bool:
    """Whether a word may end and another begin between two letters."""
    if not (before.isalnum() and after.isalnum()):
        return True
    return bool(_NO_SPACES.match(before) or _NO_SPACES.match(after)) or (
        bool(_KOREAN.match(before)) != bool(_KOREAN.match(after))
    )


def _base_before(text: str, end: int) -> str:
    """The letter before a place, without the marks that it carries."""
    place = end - 1
    while place > 0 and (text[place] in _JOINERS or unicodedata.category(text[place]).startswith("M")):
        place -= 1
    return text[place]


@lru_cache(maxsize=64)
def _fold(text: str) -> _Folded:
    """Letters without case, decomposed, as typed; one space for white space and underscores in a row."""
    letters: list[str] = []
    spans: list[Span] = []
    for match in _CHARACTERS.finditer(text):
        character = match[0].translate(_TYPED)
        if _UNSEEN.fullmatch(character):
            continue
        if character.isspace() or character == "_":
            if letters and letters[-1] == " ":
                spans[-1] = spans[-1][0], match.end()
                continue
            character = " "
        decomposed = unicodedata.normalize("NFKD", character)
        for letter in _OPTIONAL.sub("", unicodedata.normalize("NFKD", decomposed.casefold())):
            letters.append(letter)
            spans.append(match.span())
    return _Folded(text, "".join(letters), tuple(spans))
