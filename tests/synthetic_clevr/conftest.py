"""A renderer, where the machine has an off-screen OpenGL; the tests that draw are left out elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mdetr.errors import MissingDependencyError
from mdetr.synthetic_clevr.rendering import Renderer


@pytest.fixture(scope="package")
def renderer() -> Iterator[Renderer]:
    try:
        made = Renderer(240, 160)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    yield made
    made.close()
