"""What errors of other libraries become in sentences of this package."""

from __future__ import annotations

import pytest

from mdetr.errors import first_line


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("wrong size.\nMore about it"), "wrong size."),
        (ValueError("\n  wrong size  \n"), "wrong size"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_the_first_line_of_an_error_is_its_message_or_its_type(error: Exception, expected: str) -> None:
    assert first_line(error) == expected
