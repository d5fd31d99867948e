"""What a checkpoint that cannot be written says."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mdetr.errors import TrainingError
from mdetr.training.checkpoints import _removed_on_error


@pytest.mark.parametrize(
    ("has_earlier", "next_step"), [(False, "then train again"), (True, "continue from there with --resume")]
)
def test_a_full_disk_names_an_earlier_checkpoint_only_if_there_is_one(
    tmp_path: Path, has_earlier: bool, next_step: str
) -> None:
    if has_earlier:
        (tmp_path / "checkpoint-5").mkdir()
        (tmp_path / "checkpoint-5" / "complete").touch()
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    with (
        pytest.raises(TrainingError, match=f"make room on the disk; .*{next_step}"),
        _removed_on_error(unfinished, tmp_path / "checkpoint-10"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not unfinished.exists()
