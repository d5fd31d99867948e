"""Logs of other libraries."""

from __future__ import annotations

import logging

import pytest

from mdetr.logs import quiet_loggers


def test_loggers_are_quiet_within_the_block_only(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tests.other_library")
    logger.setLevel(logging.INFO)
    with pytest.raises(RuntimeError), quiet_loggers("tests.other_library", "tests.another"):
        logger.warning("inside")
        logger.error("failure")
        raise RuntimeError
    logger.info("outside")
    assert [record.message for record in caplog.records] == ["failure", "outside"]
