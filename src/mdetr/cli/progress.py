"""The progress bar of a command that takes a while."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress, ProgressColumn


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A bar on standard error, which is gone when the work is done; nothing at all outside a terminal.

    Args:
        columns: What it shows; Rich's own columns if none are given.
    """
    console = Console(stderr=True)
    # Where it cannot move, Rich would still end it with an empty line.
    return Progress(*columns, console=console, transient=True, disable=not console.is_interactive)
