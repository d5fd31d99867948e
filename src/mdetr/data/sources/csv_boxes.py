"""Reader of tables with one box in each row (CSV)."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
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
from mdetr.processing.coordinates import Box, Span

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
    belongs to; a text alone belongs to its boxes as a whole; a label alone becomes the text that asks for
    this class (`class_prompt`). A row with four empty cells for its box adds a text without one. Where there
    is a column `split`, the rows of the split are read. `width` and `height` beside corners are the image's
    size, which has to be right.

    Args:
        root: The file, or a folder that holds SPLIT.csv. Commas, semicolons or tabs separate its cells.
        split: The name of the part.
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
    keys: dict[str, None] = {}
    names = Counter[str]()

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
            read = {}
            of_key = index.of(key)
            for number, row in of_key:
                with inside(f"line {number}"):
                    read[tuple(row.items())] = _read_row(row, columns, width, height)
            boxes = [box for box in read.values() if box is not None]
            text = _text_of(of_key[0][1], columns)
            names[image] += 1
            record = Record(
                source=file.stem,
                split=split,
                id=f"{image}-{names[image]}",
                image=image,
                image_id=image,
                width=width,
                height=height,
                text=text,
                boxes=tuple(box for box, _ in boxes),
                spans=tuple((span,) for _, span in boxes),
            )
            return [record, LeftOut("rows that are there twice", len(of_key) - len(read))]

        entries = ((f"{file}, image {json.loads(key)[0]!r:.80}", key) for key in keys)
        yield from convert_entries(entries, convert, on_bad, counts)


def _read_header(file: Path) -> tuple[str, _Columns]:
    """What separates the cells of a table, and its columns."""
    with open_text(file, errors="surrogateescape", newline="") as lines:
        header = next((line for line in lines if line.strip()), "")
    delimiter = max(DELIMITERS, key=header.count)
    names = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter), [])]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InvalidInputError(f"{file} has two columns {twice[0]!r}; give each a name of its own.")
    return delimiter, _find_columns(names, file)


def _find_columns(names: list[str], file: Path) -> _Columns:
    image, text, label = (next((n for n in known if n in names), None) for known in (IMAGE, TEXT, LABEL))
    box = next((four for four in (*CORNERS, *SIZES) if set(four) <= set(names)), None)
    missing = [
        *(["image"] if image is None else []),
        *(["text or label"] if text is None and label is None else []),
        *(["x0, y0, x1, y1 (or xmin, ymin, xmax, ymax, or x, y, w, h)"] if box is None else []),
    ]
    if image is None or box is None or missing:
        raise InvalidInputError(
            f"{file} lacks the columns {' and '.join(missing)}; its first line must name the columns, got "
            f"{', '.join(names) or 'nothing'}."
        )
    has_image_size = set(IMAGE_SIZE) <= set(names) and not set(IMAGE_SIZE) & set(box)
    used = {image, text, label, *box, SPLIT, *(IMAGE_SIZE if has_image_size else ())}
    others = tuple(name or "without a name" for name in names if name not in used)
    return _Columns(image, text, label, box, box in SIZES, has_image_size, SPLIT in names, others)


def _rows(file: Path, delimiter: str) -> Iterator[tuple[str, tuple[int, list[str] | dict[str, str]]]]:
    """Each row that is not blank with its line: cells by name, or the list of them if there are too many."""
    csv.field_size_limit(_LARGEST_CELL)
    with open_text(file, errors="surrogateescape", newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter)
        names: list[str] | None = None
        try:
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if names is None:
                    names = [name.strip().lower() for name in row]
                    continue
                cells = [cell.strip() for cell in row]
                content = dict(zip(names, cells, strict=True)) if len(cells) == len(names) else cells
                yield f"{file}, line {reader.line_num}", (reader.line_num, content)
        except csv.Error as error:
            raise InvalidInputError(f"{file}, line {reader.line_num}: it is not CSV ({error}).") from None


def _key_of(
    row: list[str] | dict[str, str], columns: _Columns, split: str
) -> tuple[dict[str, str], str | None]:
    """A row, and what those of its record share, as JSON; None for a row of another split."""
    if isinstance(row, list):
        raise InvalidInputError(f"it has {len(row)} cells, but the header has another number")
    if any("\udc80" <= character <= "\udcff" for cell in row.values() for character in cell):
        raise InvalidInputError("it is not UTF-8 text; save the file in UTF-8")
    if columns.has_split and row[SPLIT] != split:
        return row, None
    if not row[columns.image]:
        raise InvalidInputError(f'its "{columns.image}" is empty')
    text = _text_of(row, columns)
    if not text.strip():
        raise InvalidInputError(f'its "{columns.text or columns.label}" is empty')
    return row, json.dumps([row[columns.image], text])


def _text_of(row: Mapping[str, str], columns: _Columns) -> str:
    return row[columns.text] if columns.text is not None else class_prompt(row[columns.label or ""])


def _read_row(row: Mapping[str, str], columns: _Columns, width: int, height: int) -> tuple[Box, Span] | None:
    """A row's box, and the words of its text that it belongs to; None for a row without a box."""
    if columns.has_image_size and any(row[name] for name in IMAGE_SIZE):
        size = tuple(to_whole(row[name], f'"{name}"') for name in IMAGE_SIZE)
        if size != (width, height):
            raise InvalidInputError(
                f"it says that its image has {size[0]} x {size[1]} pixels, but it has {width} x {height}: "
                "its box belongs to another version of the image"
            )
    text = _text_of(row, columns)
    words = row[columns.label] if columns.text and columns.label else ""
    span = locate_phrase(words, text) if words else (0, len(text))
    if not any(row[name] for name in columns.box):
        return None
    a, b, c, d = (to_finite(row[name], f'"{name}"') for name in columns.box)
    box = (a, b, a + c, b + d) if columns.has_sizes else (a, b, c, d)
    return cut_box(box, width, height, slack=1), span
