"""Text prompts for class names."""

from __future__ import annotations

import re

_PARENTHESES = re.compile(r"\([^)]*\)")


def class_prompt(name: str) -> str:
    """The text that asks for a class: "hot_dog_(food)" -> "hot dog ".

    What stands in parentheses goes, and the space before it stays, as in the texts that the published models
    were trained with.

    Source: arXiv 2104.12763, section 4.2.4: every class name of LVIS is a text of its own.
    """
    return re.sub(" +", " ", _PARENTHESES.sub("", name).replace("_", " "))
