"""Progress bars of commands that take a while."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress, ProgressColumn


def progress_bar(*columns: ProgressColumn) -> Progress:
    """Make a progress bar on standard error that disappears when the work is done.

    Outside a terminal it prints nothing.

    Args:
        *columns: Columns to show; Rich's own if none are given.

    Returns:
        The bar, without a task.
    """
    console = Console(stderr=True)
    # A bar that cannot move would still end with an empty line
    return Progress(*columns, console=console, transient=True, disable=not console.is_interactive)


def image_progress(num_images: int, results_console: Console, is_stdout_json: bool) -> Progress:
    """Make a progress bar over images that printing of results does not disturb.

    Args:
        num_images: Number of images; a single image gets no bar.
        results_console: Console that results are printed to.
        is_stdout_json: Whether JSON is printed to standard output. In a terminal the bar would mix with it.

    Returns:
        The bar, without a task.
    """
    console = results_console if results_console.is_terminal else Console(stderr=True)
    is_mixed_with_json = is_stdout_json and Console().is_terminal
    return Progress(
        console=console,
        transient=True,
        disable=num_images < 2 or not console.is_interactive or is_mixed_with_json,
        redirect_stdout=False,
        redirect_stderr=False,
    )
