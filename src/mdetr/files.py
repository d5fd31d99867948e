"""Atomic writing of files, parsing of JSON and YAML, and addresses of images."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mdetr.errors import InvalidInputError


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
    return path.with_name(f".{secrets.token_hex(6)}{path.suffix}")


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
        InvalidInputError: It is not YAML, has a value such as the date 2020-99-99, or is nested too deeply.
    """
    import yaml

    try:
        return yaml.load(text, loader)
    except RecursionError:
        raise InvalidInputError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInputError(" ".join(str(error).split())) from None


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
