"""Words for groups of objects, and the characters at which each group's noun stands in the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mdetr.data.sources.clevr_programs import ATTRIBUTES
from mdetr.processing.coordinates import Span
from mdetr.synthetic_clevr.groups import DIRECTIONS, Group, Link
from mdetr.synthetic_clevr.wordings import RELATIONS, SAME, WORDS

T = TypeVar("T")
_MARKED = re.compile(r"\[([\d,]*)\|([^\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A text, and per noun its characters and the objects that it stands for."""

    text: str
    phrases: tuple[tuple[Span, tuple[int, ...]], ...]


class Phrasing:
    """Puts the words for groups into wordings.

    Args:
        random: Where all choices come from.
        articles: Whether nouns have articles; "is there red cube?" has none.
    """

    def __init__(self, random: np.random.Generator, articles: bool = True) -> None:
        self.random = random
        self.articles = articles

    def fill(self, wording: str, groups: Sequence[Group], attribute: str = "", it: bool = False) -> str:
        """A wording with the words for its groups, as marked text.

        Args:
            wording: One of `mdetr.synthetic_clevr.wordings`.
            groups: One or two, for the names without and with a 2.
            attribute: What stands for {attribute}.
            it: Whether a sentence before names the object that the first group is related to, so that it is
                "it" in the wording.
        """
        intro = ""
        if it:
            intro = f"there is {self._indefinite(groups[0].links[0].anchor)}; "
        article = "the " if self.articles else ""
        bare = _SLOT.sub(lambda slot: self._slot(slot[1], groups, attribute, it), wording)
        if not self.articles:
            bare = re.sub(r"\b(the|an?) (?=\[)", "", bare)
        return (intro + bare).replace("<the>", article)

    def _slot(self, name: str, groups: Sequence[Group], attribute: str, it: bool) -> str:
        if name == "attribute":
            return attribute
        group = groups[1] if name.endswith("2") else groups[0]
        it = it and group is groups[0]
        kind = name.removesuffix("2")
        if kind == "a":
            return self._indefinite(group, it)
        if kind == "the":
            return f"<the>{self._noun(group, plural=False)}{self._tail(group, False, it)}"
        if kind == "one":
            return self._noun(group, plural=False) + self._tail(group, False, it)
        if kind == "things":
            return self._noun(group, plural=True) + self._tail(group, True, it)
        if kind == "bare":
            return self._noun(group, plural=True)
        if not group.links:
            return self._choice(("there", "in the picture", "in this scene"))
        return self._relations(group, it)

    def _indefinite(self, group: Group, it: bool = False) -> str:
        noun = self._noun(group, plural=False)
        tail = self._tail(group, False, it)
        if not self.articles:
            return noun + tail
        words = _MARKED.sub(r"\2", noun)
        if words.startswith("other "):
            return f"an{noun}{tail}"  # "another"
        return f"{'an' if words[0] in 'aeiou' else 'a'} {noun}{tail}"

    def _noun(self, group: Group, plural: bool) -> str:
        said = group.attributes
        words = [self._synonym(said[name]) for name in ATTRIBUTES[:3] if name in said]
        noun = self._synonym(said.get("shape", "thing")) + ("s" if plural else "")
        other = "other " if any(link.kind not in DIRECTIONS for link in group.links) else ""
        members = ",".join(map(str, group.members))
        return f"{other}[{members}|{' '.join([*words, noun])}]"

    def _tail(self, group: Group, plural: bool, it: bool) -> str:
        if not group.links:
            return ""
        verbs = ("are" if plural else "is",)
        joined = self._choice(("", "", f"that {verbs[0]} ", f"which {verbs[0]} "))
        if not joined and len(group.links) == 1 and group.links[0].kind not in DIRECTIONS:
            has = "have" if plural else "has"
            kind = group.links[0].kind
            form = self._choice(
                (f"that {has} the same {kind} as ", f"with the same {kind} as ", f"of the same {kind} as ")
            )
            return f" {form}{self._anchor(group.links[0], it)}"
        return f" {joined}{self._relations(group, it)}"

    def _relations(self, group: Group, it: bool) -> str:
        words = [f"{self._relation(link)} {self._anchor(link, it)}" for link in group.links]
        if len(words) == 1:
            return words[0]
        both = self._choice(("", "both "))
        between = self._choice((" and ", " and also ")) if not both else " and "
        return both + between.join(words)

    def _relation(self, link: Link) -> str:
        return self._choice((RELATIONS if link.kind in DIRECTIONS else SAME)[link.kind])

    def _anchor(self, link: Link, it: bool) -> str:
        if it:
            return "it"
        return f"<the>{self._noun(link.anchor, plural=False)}{self._tail(link.anchor, False, False)}"

    def _synonym(self, word: str) -> str:
        return self._choice(WORDS.get(word, (word,)))

    def _choice(self, values: Sequence[T]) -> T:
        return values[int(self.random.integers(len(values)))]


def unmark(marked: str) -> MarkedText:
    """Take the marks out of a text, and tell where they were."""
    text, phrases, end = "", [], 0
    for match in _MARKED.finditer(marked):
        text += marked[end : match.start()]
        members = tuple(int(member) for member in match[1].split(",") if member)
        phrases.append(((len(text), len(text) + len(match[2])), members))
        text, end = text + match[2], match.end()
    return MarkedText(text + marked[end:], tuple(phrases))
