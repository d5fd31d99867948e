"""Text prompts for class names."""

from __future__ import annotations

import re

_PARENTHESES = re.compile(r"\([^)]*\)")


def class_prompt(name: str) -> str:
    """Make the text prompt for a class name: "hot_dog_(food)" -> "hot dog ".

    Text in parentheses is removed, but not the space before it, as in the training texts of the released
    models.

    Source: arXiv 2104.12763, section 4.2.4: every class name of LVIS is a separate text.
    """
    return re.sub(" +", " ", _PARENTHESES.sub("", name).replace("_", " "))
