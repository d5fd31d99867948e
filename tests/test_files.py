"""Writing files: all or nothing, with the permissions of any other new file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from mdetr.errors import InvalidInputError
from mdetr.files import (
    atomic_write,
    full_disk,
    give_ordinary_permissions,
    parse_xml,
    parse_yaml,
    read_json_object,
    remove_temporaries,
)


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


def test_xml_with_entities_is_refused() -> None:
    entities = '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><a>&d;</a>'
    for text in (entities, entities.encode(), entities.encode("utf-16")):
        with pytest.raises(InvalidInputError, match="it has a DOCTYPE, which may define entities; remove it"):
            parse_xml(text)
    with pytest.raises(InvalidInputError, match="it is not XML"):
        parse_xml("<a>")
    assert parse_xml('<?xml version="1.0" encoding="latin-1"?><a>\xe9</a>'.encode("latin-1")).text == "\xe9"


def test_yaml_makes_no_objects_and_does_not_repeat_itself_without_end() -> None:
    with pytest.raises(InvalidInputError, match="could not determine a constructor"):
        parse_yaml("!!python/object/apply:os.getcwd []", yaml.SafeLoader)
    lines = ["a0: &a0 [1, 2]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(InvalidInputError, match="its aliases stand for more than 1,000,000 values"):
        parse_yaml("\n".join(lines), yaml.SafeLoader)
    with pytest.raises(InvalidInputError, match="its aliases stand for more"):
        parse_yaml("&a [*a]", yaml.SafeLoader)
    assert parse_yaml("\n".join(lines[:3]), yaml.SafeLoader)["a2"] == [[[1, 2]] * 10] * 10
    assert parse_yaml("", yaml.SafeLoader) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), os.strerror(errno.ENOSPC)),
        (
            RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 64 vs 0"),
            "[enforce fail at",
        ),
        (RuntimeError("I/O error: File too large (os error 27)"), "I/O error"),
        (OSError(errno.EACCES, "Permission denied"), None),
        (ValueError("27"), None),
    ],
    ids=["system", "torch", "safetensors", "permission", "other"],
)
def test_a_full_disk_is_recognized(error: Exception, reason: str | None) -> None:
    found = full_disk(error)
    assert found is None if reason is None else found is not None and found.startswith(reason)


def test_what_a_killed_process_has_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    left = [tmp_path / ".0123456789ab.json", tmp_path / "inner" / ".ba9876543210.png"]
    kept = [tmp_path / ".0123456789.json", tmp_path / "0123456789ab.json", tmp_path / ".lock"]
    for file in left + kept:
        file.touch()
    remove_temporaries(tmp_path)
    assert [file.exists() for file in left + kept] == [False, False, True, True, True]
