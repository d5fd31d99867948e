"""Atomic writing of files and folders, parsing of JSON, YAML and XML, and addresses of images."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mdetr.errors import InvalidInputError, first_line

_MAX_YAML_NODES = 1_000_000
_TEMPORARY_DIGITS = 12  # hexadecimal ones, of the names of temporary files
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# What libraries that write files without Python say about a full disk: torch, those in Rust, and SQLite
_FULL_IN_WORDS = re.compile(
    r"PytorchStreamWriter|inline_container|iostream error|(os error |\()(27|28|122)\)"
    r"|disk I/O error|disk is full|No space left on device"
)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write a file through a temporary one, which replaces `path` when the block ends without an error.

    After an error nothing is left behind, and an older file at `path` is unchanged. A symbolic link stays,
    and its target is replaced. Anything else, such as /dev/stdout or a pipe, is written to directly.

    Args:
        path: File to write; its folder must exist.

    Yields:
        Path of the temporary file, which does not exist yet: in the same folder, with the same suffix.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        yield target
        return
    target = target.resolve()
    temporary = temporary_path(target)
    try:
        yield temporary
        give_ordinary_permissions(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Make up a hidden path in the folder of `path`, with the same suffix, that does not exist yet."""
    return path.with_name(f".{secrets.token_hex(_TEMPORARY_DIGITS // 2)}{path.suffix}")


def replace_folder(new: Path, folder: Path) -> None:
    """Move a complete folder to its final path, and remove the one that was there.

    A folder cannot be replaced in one step. If the process ends between the two steps, the earlier folder is
    kept beside its path, and `restore_folder` puts it back.

    Args:
        new: Folder to move.
        folder: Its final path, on the same disk.
    """
    restore_folder(folder)
    old = _earlier_folder(folder)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def restore_folder(folder: Path) -> None:
    """Put back the folder that `replace_folder` had moved away when its process ended, if any."""
    old = _earlier_folder(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)


def _earlier_folder(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def remove_temporaries(folder: Path) -> None:
    """Remove what `atomic_write` has left in a folder and its subfolders because its process was killed.

    Args:
        folder: Folder that no other process writes to.
    """
    for path in folder.rglob(f".{'[0-9a-f]' * _TEMPORARY_DIGITS}*"):
        if path.is_file():
            path.unlink(missing_ok=True)


def full_disk(error: BaseException) -> str | None:
    """Find out whether a file could not be written for lack of space on its disk.

    Args:
        error: The error of the operating system, or of a library that writes files.

    Returns:
        The reason in a few words, such as "No space left on device"; None if the reason is another one.
    """
    if isinstance(error, OSError) and error.errno in _FULL:
        return os.strerror(error.errno)
    return first_line(error) if _FULL_IN_WORDS.search(str(error)) else None


def give_ordinary_permissions(file: Path) -> None:
    """Give a file the permissions of a new one; some libraries, such as safetensors, write private files."""
    # The umask cannot be read without changing it, so a new file shows which permissions it allows
    example = temporary_path(file)
    example.touch(exist_ok=False)
    try:
        shutil.copymode(example, file)
    finally:
        example.unlink()


def read_json_object(file: Path) -> dict[str, Any]:
    """Read a file in JSON that holds an object.

    Args:
        file: The file, in UTF-8.

    Returns:
        The object.

    Raises:
        InvalidInputError: The reason why it cannot be read, such as "it is not a JSON object", for a sentence
            that says what to do.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise InvalidInputError("it is nested too deeply") from None
    except OSError as error:
        raise InvalidInputError(f"it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInputError("it is not UTF-8 text") from None
    except ValueError as error:
        raise InvalidInputError(f"it is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidInputError("it is not a JSON object")
    return content


def parse_yaml(text: str, loader: Any) -> Any:
    """Parse a text in YAML.

    Args:
        text: The text.
        loader: A loader of PyYAML that makes no objects of Python, such as `yaml.SafeLoader`.

    Returns:
        The parsed value.

    Raises:
        InvalidInputError: It is not YAML, has a value such as the date 2020-99-99, is nested too deeply, or
            repeats itself without end.
    """
    import yaml

    try:
        document = loader(text)
        try:
            node = document.get_single_node()
            if node is None:
                return None
            if _count_nodes(node, {}) > _MAX_YAML_NODES:
                raise InvalidInputError(
                    f"its aliases stand for more than {_MAX_YAML_NODES:,} values; write them out"
                )
            return document.construct_document(node)
        finally:
            document.dispose()
    except InvalidInputError:
        raise
    except RecursionError:
        raise InvalidInputError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInputError(" ".join(str(error).split())) from None


def _count_nodes(node: Any, known: dict[int, float]) -> float:
    """Count the values of a YAML document with a copy for each alias; a few lines may describe billions."""
    if id(node) not in known:
        known[id(node)] = math.inf  # of a node within itself
        inner = node.value if isinstance(node.value, list) else []
        total = 1.0
        for item in inner:
            total += sum(_count_nodes(part, known) for part in (item if isinstance(item, tuple) else (item,)))
        known[id(node)] = total
    return known[id(node)]


class _NoDocumentType(ElementTree.TreeBuilder):
    """Builder of an XML tree that refuses a DOCTYPE, whose entities a few lines can make endless."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InvalidInputError("it has a DOCTYPE, which may define entities; remove it")


def parse_xml(content: str | bytes) -> ElementTree.Element:
    """Parse a text in XML.

    Args:
        content: The text, or its bytes in the encoding that they declare.

    Returns:
        The root.

    Raises:
        InvalidInputError: It is not XML, or has a DOCTYPE.
    """
    try:
        parser = ElementTree.XMLParser(target=_NoDocumentType())  # noqa: S314  # nosec B314 (no entities)
        parser.feed(content)
        return parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"it is not XML ({error})") from None


def is_file(path: Path) -> bool:
    """Return whether a path is that of a file; false for names that no file can have, such as long ones."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Return whether a path is that of a folder; false for names that no folder can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_data_address(image: object) -> bool:
    """Return whether an image is given as a data: URL, which contains the encoded image itself (RFC 2397)."""
    return isinstance(image, str) and image[:5].lower() == "data:"


def is_address(image: object) -> bool:
    """Return whether an image is given as an address: a web address, a remote file, or a data: URL."""
    return is_data_address(image) or (isinstance(image, str) and "://" in image)


def address_name(address: str) -> str:
    """Return the name of the file that an address ends with, or "image" if there is none."""
    if is_data_address(address):
        return "image"
    return address.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2] or "image"
