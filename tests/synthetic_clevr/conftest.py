"""Renderer for the tests, which are skipped on machines without an off-screen OpenGL."""

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
