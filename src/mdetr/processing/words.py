"""The words of a text, in any script."""

from __future__ import annotations

from bisect import bisect_right

import regex

# Scripts that put no spaces between words: each of their characters stands for itself.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Line_Break=Complex_Context}"
_LETTERS = rf"[[\p{{L}}\p{{N}}\p{{M}}_]--[{_UNSPACED}]]+"
_WORD = regex.compile(
    rf"""
    [{_UNSPACED}]\p{{M}}*             # one character, with its marks
    | ['\u2019]s(?!{_LETTERS})        # the possessive's ending, which is no part of the name
    | {_LETTERS}                      # a run of letters and digits, and what holds words together:
      (?:
        (?: [-\u00ad\u2010\u2011\u200c\u200d]           # hyphens, invisible joiners,
          | ['\u2019](?!s(?!{_LETTERS}))                # apostrophes,
          | (?<=\p{{N}})[.,](?=\p{{N}})                 # the points and commas of numbers
        ) {_LETTERS}
      )*
    | \X                              # a mark, an emoji, a space: what is seen as one character
    """,
    regex.VERBOSE | regex.VERSION1 | regex.IGNORECASE,
)


class Words:
    """Where the words of a text begin and end.

    A word is a run of letters, marks and digits with the hyphens and apostrophes inside it; the possessive's
    ending is a word of its own. So is any other character, and so is each character of a script without
    spaces, such as Chinese or Thai.
    """

    def __init__(self, text: str) -> None:
        spans = [match.span() for match in _WORD.finditer(text)]
        self._starts = [start for start, _ in spans]
        self._ends = [end for _, end in spans]

    def expand(self, start: int, end: int) -> tuple[int, int]:
        """Grow the characters from `start` to before `end` to whole words.

        Args:
            start, end: Of the text, 0 <= start < end <= its length.
        """
        return (
            self._starts[bisect_right(self._starts, start) - 1],
            self._ends[bisect_right(self._starts, end - 1) - 1],
        )
