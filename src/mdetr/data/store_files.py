"""Files of a store: the description `store.json` and the Parquet files with the rows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mdetr.data.record import SCHEMA
from mdetr.errors import InvalidInputError

SCHEMA_VERSION = 1
DESCRIPTION = "store.json"


def read_description(folder: Path) -> dict[str, Any]:
    """Read the description of a store.

    Args:
        folder: Folder of the store.

    Returns:
        Fields of `store.json`, among them "image_root", "rows" and "shards".

    Raises:
        InvalidInputError: There is no store, or its description is damaged or of another version.
    """
    if not folder.exists():
        raise InvalidInputError(f"There is no store at {folder}; make one with `mdetr data import`.")
    file = folder / DESCRIPTION
    if not file.is_file():
        raise InvalidInputError(
            f"{folder} is not a store: it has no {DESCRIPTION}; name a folder that `mdetr data import` made."
        )
    try:
        description: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = description["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{file} is damaged ({error!r}); import the data again.") from None
    if version != SCHEMA_VERSION:
        raise InvalidInputError(
            f"The store {folder} has schema version {version}, this program reads {SCHEMA_VERSION}; "
            "import the data again."
        )
    if not {"image_root", "rows", "shards"} <= description.keys():
        raise InvalidInputError(f"{file} is damaged (fields are missing); import the data again.")
    return description


def read_group_sizes(shard: Path) -> list[int]:
    """Read the number of rows of each row group from the footer of a Parquet file.

    Args:
        shard: File of a store.

    Returns:
        Number of rows of each row group.

    Raises:
        InvalidInputError: The file is missing or damaged, or lacks columns of a store.
    """
    if not shard.is_file():
        raise InvalidInputError(f"The store's file {shard} is missing; import the data again.")
    try:
        footer = pq.read_metadata(shard)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInputError(
            f"{shard} is not a readable Parquet file ({error}); import the data again."
        ) from None
    missing = set(SCHEMA.names) - set(footer.schema.to_arrow_schema().names)
    if missing:
        raise InvalidInputError(
            f"{shard} lacks the columns {', '.join(sorted(missing))} of a store; import the data again."
        )
    return [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]


def relative_root(image_root: Path, folder: Path) -> str:
    """Express the image root relative to the store, to let both move together; absolute on another drive."""
    root, store = image_root.resolve(), folder.resolve()
    try:
        shared = Path(os.path.commonpath((root, store)))
    except ValueError:  # other drives
        return str(root)
    return str(root) if shared == Path(shared.anchor) else Path(os.path.relpath(root, store)).as_posix()
