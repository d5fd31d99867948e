"""Whatever stands in a field of whatever file: an entry is read, or refused in a sentence that names it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from mdetr.data.record import SCHEMA, Record, to_row
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.rle import decode_masks
from tests.data.sources.samples import SAMPLES, TEXT_SAMPLES, H, W, write_sample

NAN, INFINITE = float("nan"), float("inf")
ODD: list[Any] = [
    *(None, True, [], {}, "", "odd", "\ud83d", -1, 0, 0.5, 10**30, 1e300, NAN, INFINITE),
    *([None], [[]], ["odd"], [NAN] * 4, [1e-300] * 4, {"counts": "o" * 40, "size": [40, 60]}),
]


def _places(content: Any) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a file, but for the file's own lists and their names."""
    if not isinstance(content, dict | list):
        return
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield (key,)
        yield from ((key, *rest) for rest in _places(value))


def _changed(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    content = copy.deepcopy(content)
    parent = content
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    return content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "images/val/a.png", "images/n1.jpg", "images/03.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (W, H)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", SAMPLES)
def test_any_value_in_any_field_is_read_or_refused_with_its_place(name: str, folder: Path) -> None:
    sample = SAMPLES[name]
    for file, content in sample.files.items():
        write_sample(folder / file, content)
    read = partial(sample.read, folder / sample.root, sample.split)
    assert list(read())
    turns = count()
    refused = 0
    for file, content in sample.files.items():
        for place in _places(content):
            for value in ODD[next(turns) % 4 :: 4]:  # a quarter of them, in turn, for each place
                write_sample(folder / file, _changed(content, place, value))
                bad = _check(read, f"{file} {place} = {value!r:.40}")
                if bad and value is None:
                    with pytest.raises((InvalidInputError, InvalidRecordError)):
                        list(read())
                refused += bad
        write_sample(folder / file, content)
    assert refused > 10


def _check(read: Callable[..., Iterator[Record]], what: str) -> int:
    """How many entries were refused, in a sentence with the file, or 1 for the file as a whole."""
    bad: list[InvalidRecordError] = []
    try:
        records = list(read(on_bad=bad.append))
    except InvalidInputError:  # the file as a whole
        return 1
    except Exception as error:
        raise AssertionError(what) from error
    for record in records:  # what is kept can be written, and trained on
        pa.Table.from_pylist([to_row(record)], schema=SCHEMA)
        decode_masks(record.masks or (), record.height, record.width)
    for error in bad:
        message = str(error)
        message.encode()
        assert ": " in message, what
        assert "\n" not in message, what
    return len(bad)


ODD_TEXTS = [
    "",
    " ",
    "odd",
    "\0",
    "-1",
    "0",
    "0.5",
    "1e999",
    "9" * 400,
    "nan",
    "(x)",
    "../..",
    "a" * 300,
    "[",
    "&",
    '"',
]


@pytest.mark.parametrize("name", TEXT_SAMPLES)
def test_any_text_in_any_place_of_a_text_file_is_read_or_refused(name: str, folder: Path) -> None:
    files, reader, root = TEXT_SAMPLES[name]
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content.replace("|", ""))
    read = partial(reader, folder / root, "val")
    assert list(read())
    refused = 0
    for file, content in files.items():
        parts = content.split("|")
        for place in range(1, len(parts), 2):
            for odd in ODD_TEXTS:
                (folder / file).write_text("".join([*parts[:place], odd, *parts[place + 1 :]]))
                refused += _check(read, f"{file}, part {place} = {odd[:40]!r}")
        (folder / file).write_text(content.replace("|", ""))
    assert refused > 10
