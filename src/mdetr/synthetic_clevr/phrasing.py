"""Words for groups of objects, with the characters of each group's noun phrase in the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from mdetr.data.sources.clevr_programs import ATTRIBUTES
from mdetr.processing.coordinates import Span
from mdetr.synthetic_clevr.groups import DIRECTIONS, Group, Link
from mdetr.synthetic_clevr.wordings import RELATIONS, SAME, WORDS

T = TypeVar("T")
_MARKED = re.compile(r"\[([\d,]*)\|([^\]]*)\]")  # [objects|noun phrase]
_SLOT = re.compile(r"\{(\w+)\}")


class Phrasing:
    """Fills wordings with words for groups.

    Args:
        random: Source of randomness.
        articles: Whether nouns have articles; "is there red cube?" has none.
    """

    def __init__(self, random: np.random.Generator, articles: bool = True) -> None:
        self.random = random
        self.articles = articles

    def fill(self, wording: str, groups: Sequence[Group], attribute: str = "", it: bool = False) -> str:
        """Fill a wording.

        Args:
            wording: One of `mdetr.synthetic_clevr.wordings`.
            groups: One or two groups, for the names without and with a 2.
            attribute: Replacement of {attribute}.
            it: Whether a sentence before introduces the object that the first group is related to, which is
                then "it" in the wording.

        Returns:
            The text, with noun phrases marked as `unmark` reads them.
        """
        intro = ""
        if it:
            intro = f"there is {self._indefinite(groups[0].links[0].anchor)}; "
        text = _SLOT.sub(lambda slot: self._fill_slot(slot[1], groups, attribute, it), wording)
        if not self.articles:
            text = re.sub(r"\b(the|an?) (?=\[)", "", text)
        return (intro + text).replace("<the>", "the " if self.articles else "")

    def _fill_slot(self, name: str, groups: Sequence[Group], attribute: str, it: bool) -> str:
        """Words for a name in braces; see the table in `mdetr.synthetic_clevr.wordings`."""
        if name == "attribute":
            return attribute

        # A trailing 2 selects the second group; only the first can be related to "it"
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
        """The marked noun phrase, with its adjectives, preceded by "other" where it shares an attribute."""
        words = []
        for name in ATTRIBUTES[:3]:
            if name in group.attributes:
                words.append(self._synonym(group.attributes[name]))
        noun = self._synonym(group.attributes.get("shape", "thing"))
        words.append(noun + "s" if plural else noun)
        other = "other " if any(link.kind not in DIRECTIONS for link in group.links) else ""
        members = ",".join(map(str, group.members))
        return f"{other}[{members}|{' '.join(words)}]"

    def _tail(self, group: Group, plural: bool, it: bool) -> str:
        """The relative clause after the noun, such as " that is left of the cube"; empty without links."""
        if not group.links:
            return ""
        verb = "are" if plural else "is"
        joined = self._choice(("", "", f"that {verb} ", f"which {verb} "))

        # "with the same color as" needs no verb
        link = group.links[0]
        if not joined and len(group.links) == 1 and link.kind not in DIRECTIONS:
            has = "have" if plural else "has"
            forms = (
                f"that {has} the same {link.kind} as ",
                f"with the same {link.kind} as ",
                f"of the same {link.kind} as ",
            )
            return f" {self._choice(forms)}{self._anchor(link, it)}"
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


def unmark(marked: str) -> tuple[str, list[tuple[Span, tuple[int, ...]]]]:
    """Remove the marks of noun phrases from a text.

    Args:
        marked: Text with noun phrases as "[0,2|red cubes]": the objects, then the words.

    Returns:
        The text, and per noun phrase its characters and its objects.
    """
    text, phrases, end = "", [], 0
    for match in _MARKED.finditer(marked):
        # Copy the text before the mark, then the words inside
        text += marked[end : match.start()]
        start = len(text)
        text += match[2]
        end = match.end()
        members = tuple(int(member) for member in match[1].split(",") if member)
        phrases.append(((start, len(text)), members))
    return text + marked[end:], phrases
