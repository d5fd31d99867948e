"""Files of a store: the description `store.json` and the Parquet files with the rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mdetr.data.record import SCHEMA
from mdetr.errors import InvalidInputError, InvalidRecordError, first_line
from mdetr.files import is_file, read_json_object

SCHEMA_VERSION = 1
DESCRIPTION = "store.json"
_MAX_NAME = 255  # bytes of the name of a file

Stamp = tuple[int, int]
"""Time of the last change of a file in nanoseconds, and its size in bytes."""


def read_description(folder: Path) -> dict[str, Any]:
    """Read the description of a store.

    Args:
        folder: Folder of the store.

    Returns:
        Fields of `store.json`, among them "image_root", "rows" and "shards".

    Raises:
        InvalidInputError: There is no store, or its description is damaged or of another version.
    """
    file = folder / DESCRIPTION
    if not is_file(file):
        if not os.path.lexists(folder):
            raise InvalidInputError(f"There is no store at {folder}; make one with `mdetr data import`.")
        raise InvalidInputError(
            f"{folder} is not a store: it has no {DESCRIPTION}; name a folder that `mdetr data import` made."
        )
    try:
        description = read_json_object(file)
    except InvalidInputError as error:
        raise InvalidInputError(f"{file} is damaged ({error}); import the data again.") from None
    version = description.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InvalidInputError(
            f"The store {folder} has schema version {version!r:.40}, this program reads {SCHEMA_VERSION}; "
            "import the data again."
        )
    wrong = [name for name, is_valid in _FIELDS.items() if not is_valid(description.get(name, ...))]
    if wrong:
        raise InvalidInputError(
            f"{file} is damaged ({', '.join(wrong)} missing or of the wrong kind); import the data again."
        )
    return description


def _is_path(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _are_names(value: object) -> bool:
    """Whether a value is a list of names of files, which lie in the folder itself."""
    if not isinstance(value, list):
        return False
    return all(_is_path(name) and name == Path(name).name and 0 < len(name) <= _MAX_NAME for name in value)


_FIELDS: dict[str, Callable[[object], bool]] = {
    "image_root": lambda value: value is None or _is_path(value),
    "rows": lambda value: type(value) is int,
    "shards": _are_names,
}


def read_group_sizes(shard: Path) -> list[int]:
    """Read the number of rows of each row group from the footer of a Parquet file.

    Args:
        shard: File of a store.

    Returns:
        Number of rows of each row group.

    Raises:
        InvalidInputError: The file is missing or damaged, or lacks columns of a store.
    """
    if not is_file(shard):
        raise InvalidInputError(f"The store's file {shard} is missing; import the data again.")
    try:
        footer = pq.read_metadata(shard)
        columns = footer.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        reason = first_line(error).rstrip(".")
        raise InvalidInputError(
            f"{shard} is not a readable Parquet file ({reason}); import the data again."
        ) from None
    missing = sorted({*SCHEMA.names} - {*columns.names})
    if missing:
        raise InvalidInputError(
            f"{shard} lacks the columns {', '.join(missing)} of a store; import the data again."
        )
    wrong = [field.name for field in SCHEMA if _kind(columns.field(field.name).type) != _kind(field.type)]
    if wrong:
        raise InvalidInputError(
            f"{shard} has values of another type than a store in the columns {', '.join(wrong)}; import the "
            "data again."
        )
    return [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]


_KINDS: tuple[tuple[str, Callable[[pa.DataType], bool]], ...] = (
    ("text", lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind)),
    ("bytes", lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind)),
    ("integer", pa.types.is_integer),
    ("float", pa.types.is_floating),
    ("boolean", pa.types.is_boolean),
)


def _kind(data_type: pa.DataType) -> Any:
    """What a column holds, whatever the number of bits and the layout, which writers choose differently."""
    if pa.types.is_struct(data_type):
        return {field.name: _kind(field.type) for field in data_type.fields}
    if hasattr(data_type, "value_type"):  # a list of any layout
        return [_kind(data_type.value_type)]
    return next((name for name, is_kind in _KINDS if is_kind(data_type)), str(data_type))


def stamp_of(file: Path) -> Stamp:
    """Return the stamp of a file, which changes when the file does."""
    status = file.stat()
    return status.st_mtime_ns, status.st_size


@contextmanager
def reading(shard: Path, stamp: Stamp) -> Iterator[None]:
    """Read a file of a store in this context, which explains why it can no longer be read.

    Args:
        shard: The file.
        stamp: Its stamp when the store was opened.

    Yields:
        Nothing.

    Raises:
        InvalidInputError: The file is damaged, was removed, or is another one now.
    """
    try:
        if stamp_of(shard) != stamp:
            raise InvalidInputError(f"{shard} has changed since the store was opened; start again.")
        yield
    except FileNotFoundError:
        raise InvalidInputError(
            f"{shard} was removed while the store was read; import the data again."
        ) from None
    except (pa.ArrowException, OSError) as error:
        reason = first_line(error).rstrip(".")
        raise InvalidInputError(f"{shard} is damaged ({reason}); import the data again.") from None


def check_nulls(table: pa.Table, where: Path) -> None:
    """Check that values are present, also in lists, wherever the schema of stores demands them.

    Args:
        table: Columns of a store.
        where: The store, for the message.

    Raises:
        InvalidRecordError: A value is null.
    """
    for field in table.schema:
        is_optional = SCHEMA.field(field.name).nullable
        for chunk in table[field.name].chunks:
            if (chunk.null_count and not is_optional) or _has_nulls_within(chunk):
                raise InvalidRecordError(
                    f"The store {where} has rows without {field.name}, or with gaps in them; import the data "
                    "again, or find the rows with `mdetr data check`."
                )


def _has_nulls_within(values: pa.Array) -> bool:
    """Whether the lists in a column have values that are null."""
    if not hasattr(values.type, "value_type"):
        return False
    inner = values.flatten()
    return inner.null_count > 0 or _has_nulls_within(inner)


def relative_root(image_root: Path, folder: Path) -> str:
    """Express the image root relative to the store, to let both move together; absolute on another drive."""
    root, store = image_root.resolve(), folder.resolve()
    try:
        shared = Path(os.path.commonpath((root, store)))
    except ValueError:  # other drives
        return str(root)
    return str(root) if shared == Path(shared.anchor) else Path(os.path.relpath(root, store)).as_posix()
