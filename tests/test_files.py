"""Writing files: all or nothing, with the permissions of any other new file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mdetr.errors import InvalidInputError
from mdetr.files import atomic_write, give_ordinary_permissions, read_json_object


@pytest.fixture
def group_may_write() -> Iterator[None]:
    """New files may be written to by the user's group, as on many shared machines."""
    before = os.umask(0o002)
    yield
    os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("group_may_write")
def test_a_file_has_the_permissions_that_the_process_gives_to_new_files(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "found.json") as file:
        file.write_text("{}")
    assert _mode(tmp_path / "found.json") == 0o664


@pytest.mark.usefixtures("group_may_write")
def test_a_file_that_a_library_hides_can_be_given_them_too(tmp_path: Path) -> None:
    hidden = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(2)}, hidden)
    hidden.chmod(0o600)
    give_ordinary_permissions(hidden)
    assert _mode(hidden) == 0o664
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_an_error_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "found.json"
    target.write_text("older")
    with pytest.raises(OSError, match="disk full"), atomic_write(target) as file:
        file.write_text("half")
        raise OSError("disk full")
    assert target.read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_a_link_keeps_pointing_at_its_file(tmp_path: Path) -> None:
    target, link = tmp_path / "real.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    for content in ("first", "second"):
        with atomic_write(link) as file:
            file.write_text(content)
        assert link.is_symlink()
        assert target.read_text() == content


def test_a_device_is_written_to_directly() -> None:
    with atomic_write(os.devnull) as file:
        assert file == Path(os.devnull)
        file.write_text("nothing keeps this")
    assert Path(os.devnull).is_char_device()


def test_all_files_of_a_saved_model_have_the_same_permissions(tiny_model_folder: Path) -> None:
    modes = {file.name: _mode(file) for file in tiny_model_folder.iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not JSON"),
        (b"[1]", "it is not a JSON object"),
        (b"\xff\xfe", "it is not UTF-8 text"),
        (b"[" * 200_000, "it is nested too deeply"),
        (None, "it cannot be read: No such file"),
    ],
)
def test_a_json_file_without_an_object_gives_a_reason(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InvalidInputError, match=reason):
        read_json_object(tmp_path / "a.json")
