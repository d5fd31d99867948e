"""Reader of tables with one box in each row (CSV)."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdetr.data.phrase_search import locate_phrase
from mdetr.data.prompts import class_prompt
from mdetr.data.record import Record
from mdetr.data.sources.class_records import cut_box
from mdetr.data.sources.converting import LeftOut, convert_entries, read_entries
from mdetr.data.sources.entry_index import EntryIndex
from mdetr.data.sources.fields import inside, to_finite, to_whole
from mdetr.data.sources.image_sizes import ImageSizes
from mdetr.data.sources.text_files import open_text
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Box, Span, Spans

# What columns may be called, the plainest name first.
IMAGE = ("image", "filename", "file_name", "image_path", "path")
TEXT = ("text", "caption", "expression")
LABEL = ("label", "phrase", "class", "class_name")
CORNERS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"))
IMAGE_SIZE = ("width", "height")
SPLIT = "split"
DELIMITERS = ",;\t"
_LARGEST_CELL = 1 << 20  # characters
_UNDECODED = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, as "surrogateescape" decodes them


@dataclass(frozen=True, slots=True)
class _Columns:
    """The names of the columns that count, None for what the table lacks.

    Attributes:
        box: Four columns, which are x, y, width and height if `has_sizes`, else x0, y0, x1, y1.
        others: Columns that are not read.
    """

    image: str
    text: str | None
    label: str | None
    box: tuple[str, str, str, str]
    has_sizes: bool
    has_image_size: bool
    has_split: bool
    others: tuple[str, ...]


def read_csv(
    root: str | Path,
    split: str,
    on_bad: OnBad | None = None,
    images: Path | None = None,
    left_out: Counter[str] | None = None,
) -> Iterator[Record]:
    """Read a table with a header and a box in each row; rows of the same image and text become one record.

    Columns are `image`; `text` or `label` or both; and `x0, y0, x1, y1` (or `xmin, ymin, xmax, ymax`, or
    `x1, y1, x2, y2`) or `x, y, w, h` in pixels. With both, the label is the words of the text that the box
    belongs to; a text alone belongs to its boxes as a whole; a label alone becomes the prompt of its
    class (`class_prompt`). A row with four empty cells for its box adds a text without one. Where there
    is a column `split`, the rows of the split are read. `width` and `height` beside corners are the image's
    size, which has to be right.

    Args:
        root: The file, or a folder that holds SPLIT.csv. Commas, semicolons or tabs separate its cells.
        split: Name of the split.
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        images: The folder that images are relative to; the file's own if left out.
        left_out: Counts what is left out on purpose, by kind.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: There is no such file, a column is missing, or it is not UTF-8.
        InvalidRecordError: A row breaks a rule, and `on_bad` is None.
    """
    file = Path(root)
    file = file / f"{split}.csv" if file.is_dir() else file
    if not file.is_file():
        raise InvalidInputError(f"There is no file {file}; give a table with a box in each row.")
    counts = Counter[str]() if left_out is None else left_out
    sizes = ImageSizes(images or file.parent)
    delimiter, columns = _read_header(file)
    if columns.others:
        counts[f"columns that are not read ({', '.join(columns.others)})"] += len(columns.others)
    keys: dict[str, None] = {}  # of the records, in the order of their first rows
    records_of_image = Counter[str]()

    def rows() -> Iterator[tuple[str, Any]]:
        cells = _rows(file, delimiter)
        read = read_entries(cells, lambda row: (row[0], *_key_of(row[1], columns, split)), on_bad)
        for number, row, key in read:
            if key is None:
                counts["rows of other splits"] += 1
            else:
                keys[key] = None
                yield key, [number, row]

    with EntryIndex(rows()) as index:

        def convert(key: str, where: str) -> list[Record | LeftOut]:
            image, width, height = sizes.locate(json.loads(key)[0], where)

            # Read each distinct row once
            numbered_rows = index.of(key)
            distinct = {}
            for number, row in numbered_rows:
                with inside(f"line {number}"):
                    distinct[tuple(row.items())] = _read_row(row, columns, width, height)

            # Collect the boxes of the rows that have one
            boxes: list[Box] = []
            spans: list[Spans] = []
            for box_and_span in distinct.values():
                if box_and_span is not None:
                    boxes.append(box_and_span[0])
                    spans.append((box_and_span[1],))

            records_of_image[image] += 1
            record = Record(
                source=file.stem,
                split=split,
                id=f"{image}-{records_of_image[image]}",
                image=image,
                image_id=image,
                width=width,
                height=height,
                text=_text_of_row(numbered_rows[0][1], columns),
                boxes=tuple(boxes),
                spans=tuple(spans),
            )
            return [record, LeftOut("duplicate rows", len(numbered_rows) - len(distinct))]

        entries = ((f"{file}, image {json.loads(key)[0]!r:.80}", key) for key in keys)
        yield from convert_entries(entries, convert, on_bad, counts)


def _read_header(file: Path) -> tuple[str, _Columns]:
    """Read the delimiter of a table, and its columns."""
    with open_text(file, errors="surrogateescape", newline="") as lines:
        header = next((line for line in lines if line.strip()), "")
    delimiter = max(DELIMITERS, key=header.count)
    names = _column_names(next(csv.reader([header], delimiter=delimiter), []))
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidInputError(f"{file} has two columns {name!r}; give each its own name.")
    return delimiter, _find_columns(names, file)


def _column_names(header: Sequence[str]) -> list[str]:
    return [name.strip().lower() for name in header]


def _first_in(names: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the first known name that a table has; None without one."""
    for name in known:
        if name in names:
            return name
    return None


def _find_columns(names: list[str], file: Path) -> _Columns:
    """Assign the columns of a table by their names."""
    image, text, label = _first_in(names, IMAGE), _first_in(names, TEXT), _first_in(names, LABEL)
    box = next((columns for columns in (*CORNERS, *SIZES) if set(columns) <= set(names)), None)

    # Report all missing columns at once
    missing = []
    if image is None:
        missing.append("image")
    if text is None and label is None:
        missing.append("text or label")
    if box is None:
        missing.append("x0, y0, x1, y1 (or xmin, ymin, xmax, ymax, or x, y, w, h)")
    if image is None or box is None or missing:
        raise InvalidInputError(
            f"{file} lacks the columns {' and '.join(missing)}; its first line must name the columns, got "
            f"{', '.join(names) or 'nothing'}."
        )

    # Beside corners, width and height are those of the image, not of the box
    has_image_size = set(IMAGE_SIZE) <= set(names) and not set(IMAGE_SIZE) & set(box)
    used = {image, text, label, *box, SPLIT, *(IMAGE_SIZE if has_image_size else ())}
    others = tuple(name or "without a name" for name in names if name not in used)
    return _Columns(image, text, label, box, box in SIZES, has_image_size, SPLIT in names, others)


def _rows(file: Path, delimiter: str) -> Iterator[tuple[str, tuple[int, list[str] | dict[str, str]]]]:
    """Yield each row that is not blank with its line: cells by name, or a list if their number is wrong."""
    csv.field_size_limit(_LARGEST_CELL)
    with open_text(file, errors="surrogateescape", newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter)
        names: list[str] | None = None
        try:
            for row in reader:
                cells = [cell.strip() for cell in row]
                if not any(cells):
                    continue
                if names is None:
                    names = _column_names(row)
                    continue
                content = dict(zip(names, cells, strict=True)) if len(cells) == len(names) else cells
                yield f"{file}, line {reader.line_num}", (reader.line_num, content)
        except csv.Error as error:
            raise InvalidInputError(f"{file}, line {reader.line_num}: it is not CSV ({error}).") from None


def _key_of(
    row: list[str] | dict[str, str], columns: _Columns, split: str
) -> tuple[dict[str, str], str | None]:
    """Return a row with the key of its record (image and text as JSON); None for one of another split."""
    if isinstance(row, list):
        raise InvalidInputError(f"it has {len(row)} cells, but the header has another number")
    if _UNDECODED.search("".join(row.values())):
        raise InvalidInputError("it is not UTF-8 text; save the file in UTF-8")
    if columns.has_split and row[SPLIT] != split:
        return row, None
    if not row[columns.image]:
        raise InvalidInputError(f'its "{columns.image}" is empty')
    text = _text_of_row(row, columns)
    if not text.strip():
        raise InvalidInputError(f'its "{columns.text or columns.label}" is empty')
    return row, json.dumps([row[columns.image], text])


def _text_of_row(row: Mapping[str, str], columns: _Columns) -> str:
    return row[columns.text] if columns.text is not None else class_prompt(row[columns.label or ""])


def _read_row(row: Mapping[str, str], columns: _Columns, width: int, height: int) -> tuple[Box, Span] | None:
    """Read the box of a row, and the span of its words in the text; None for a row without a box."""
    if columns.has_image_size and any(row[name] for name in IMAGE_SIZE):
        size = tuple(to_whole(row[name], f'"{name}"') for name in IMAGE_SIZE)
        if size != (width, height):
            raise InvalidInputError(
                f"it says that its image has {size[0]} x {size[1]} pixels, but it has {width} x {height}: "
                "its box belongs to another version of the image"
            )

    # The label, where there is also a text, is the words of the box
    text = _text_of_row(row, columns)
    words = row[columns.label] if columns.text and columns.label else ""
    span = locate_phrase(words, text) if words else (0, len(text))
    if not any(row[name] for name in columns.box):
        return None

    x0, y0, x1, y1 = (to_finite(row[name], f'"{name}"') for name in columns.box)
    if columns.has_sizes:
        x1, y1 = x0 + x1, y0 + y1
    return cut_box((x0, y0, x1, y1), width, height, slack=1), span
