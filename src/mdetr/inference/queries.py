"""Queries of people who use a model through the page or the server, and the limits of their length."""

from __future__ import annotations

from dataclasses import dataclass

from mdetr.checkpoints.registry import Task
from mdetr.errors import InvalidInputError

MAX_NAMES = 200
"""Maximum number of class names in a query."""

MAX_CHARACTERS = 2000
"""Maximum length of a text or of a class name."""


@dataclass(frozen=True)
class Query:
    """What to predict for an image.

    Attributes:
        task: The task.
        text: Caption, expression, question or phrase.
        names: Class names, for detection.
    """

    task: Task
    text: str = ""
    names: tuple[str, ...] = ()

    def check_limits(self) -> None:
        """Check the length of the query.

        Raises:
            InvalidInputError: The text is too long, or there are too many names.
        """
        if len(self.names) > MAX_NAMES:
            raise InvalidInputError(
                f"There are {len(self.names)} class names; send at most {MAX_NAMES} at a time."
            )
        longest = max((self.text, *self.names), key=len)
        if len(longest) > MAX_CHARACTERS:
            raise InvalidInputError(
                f"The text has {len(longest):,} characters; shorten it to at most {MAX_CHARACTERS:,}."
            )
