"""The words of a text, in any script."""

from __future__ import annotations

from bisect import bisect_right

import regex

# Scripts without spaces between words: each character is a word of its own
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Line_Break=Complex_Context}"
_LETTERS = rf"[[\p{{L}}\p{{N}}\p{{M}}_]--[{_UNSPACED}]]+"
_WORD = regex.compile(
    rf"""
    [{_UNSPACED}]\p{{M}}*             # one character, with its marks
    | ['\u2019]s(?!{_LETTERS})        # the possessive ending, which is not part of the name
    | {_LETTERS}                      # a run of letters and digits, joined by
      (?:
        (?: [-\u00ad\u2010\u2011\u200c\u200d]           # hyphens, invisible joiners,
          | ['\u2019](?!s(?!{_LETTERS}))                # apostrophes,
          | (?<=\p{{N}})[.,](?=\p{{N}})                 # points and commas within numbers
        ) {_LETTERS}
      )*
    | \X                              # a mark, an emoji, a space: one visible character
    """,
    regex.VERBOSE | regex.VERSION1 | regex.IGNORECASE,
)


class Words:
    """Boundaries of the words of a text.

    A word is a run of letters, marks and digits, including hyphens and apostrophes inside it. The possessive
    ending is a separate word. So is any other character, and each character of a script without spaces, such
    as Chinese or Thai.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        spans = [match.span() for match in _WORD.finditer(text)]
        self._starts = [start for start, _ in spans]
        self._ends = [end for _, end in spans]

    def expand(self, start: int, end: int) -> tuple[int, int]:
        """Expand a span of characters to whole words.

        Args:
            start: First character, from 0.
            end: End of the span, exclusive; greater than `start`, at most the length of the text.

        Returns:
            Start and end of the expanded span.
        """
        return (
            self._starts[bisect_right(self._starts, start) - 1],
            self._ends[bisect_right(self._starts, end - 1) - 1],
        )
