"""Tests of the store: round trips, random reads, workers, atomic writing, damaged stores."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from mdetr.data.record import SCHEMA, Phrase, Record, to_row
from mdetr.data.store import Store, write_store
from mdetr.errors import InvalidInputError, InvalidRecordError


def make_record(number: int, text: str = "two blue balls") -> Record:
    return Record(
        source="tests",
        split="val",
        id=str(number),
        image=f"{number % 3}.png",
        image_id=str(number % 3),
        width=60,
        height=40,
        text=text,
        boxes=((0.0, 0.0, 1.0 + number % 50, 20.0),),
        spans=(((4, 8), (9, 14)),),
    )


def test_a_store_gives_back_what_was_written(tmp_path: Path) -> None:
    records = [make_record(number) for number in range(100)]
    store = write_store(tmp_path / "store", records, tmp_path, rows_per_group=7, rows_per_shard=20)
    assert len(list((tmp_path / "store").glob("data-*.parquet"))) == 5  # shards end with a row group: 21 rows
    assert len(store) == 100
    assert list(store) == records
    assert [store[row] for row in (99, 0, 50, 6, 7, 20, 21, -1, -100)] == [
        records[row] for row in (99, 0, 50, 6, 7, 20, 21, -1, -100)
    ]
    assert list(Store.open(tmp_path / "store")) == records
    assert store.image_ids().to_pylist() == [str(number % 3) for number in range(100)]


def test_a_selection_of_rows_is_a_store_of_its_own(tmp_path: Path) -> None:
    records = [make_record(number) for number in range(30)]
    whole = write_store(tmp_path / "store", records, tmp_path, rows_per_group=7, rows_per_shard=14)
    store = whole.select(np.arange(1, 30, 3)).select(np.array([0, 2, 9]))  # rows 1, 7 and 28
    chosen = [records[1], records[7], records[28]]
    for same in (store, pickle.loads(pickle.dumps(store))):
        assert list(same) == chosen
        assert [same[row] for row in (2, -3)] == [records[28], records[1]]
        assert same.columns(["id"])["id"].to_pylist() == ["1", "7", "28"]
        assert [table["id"].to_pylist() for n in range(3) for table in same.tables(n) if len(table)] == [
            ["1"],
            ["7"],
            ["28"],
        ]
    assert store.name_of(1) == {"source": "tests", "split": "val", "id": "7", "image_id": "1"}
    with pytest.raises(IndexError, match="has 3 rows"):
        store[3]
    assert len(whole) == 30


@pytest.mark.parametrize("row", [3, -4])
def test_a_row_beyond_the_end_is_an_index_error(tmp_path: Path, row: int) -> None:
    store = write_store(tmp_path / "store", map(make_record, range(3)), tmp_path)
    with pytest.raises(IndexError, match="has 3 rows"):
        store[row]


def test_an_empty_store_has_no_rows(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", [], tmp_path)
    assert (len(store), list(store), len(store.image_ids())) == (0, [], 0)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=30).filter(
    str.strip
)
coordinates = st.floats(0, 64, width=32, allow_subnormal=False)


@st.composite
def records(draw: st.DrawFn) -> Record:
    text = draw(texts)
    spans = st.integers(0, len(text) - 1).flatmap(
        lambda start: st.tuples(st.just(start), st.integers(start + 1, len(text)))
    )
    span_lists = st.lists(spans, max_size=3).map(tuple)
    boxes = draw(
        st.lists(
            st.tuples(coordinates, coordinates, coordinates, coordinates).filter(
                lambda b: b[0] < b[2] and b[1] < b[3]
            ),
            max_size=4,
        )
    )

    def per_box(values: st.SearchStrategy) -> tuple:
        return tuple(draw(st.lists(values, min_size=len(boxes), max_size=len(boxes))))

    indices = st.lists(st.integers(0, len(boxes) - 1), max_size=3).map(tuple) if boxes else st.just(())
    return Record(
        source=draw(st.sampled_from(["a", "b"])),
        split="train",
        id="unset",
        image=draw(st.one_of(texts, st.binary(min_size=1, max_size=20))),
        image_id=draw(texts),
        width=64,
        height=64,
        text=text,
        boxes=tuple(boxes),
        spans=per_box(span_lists),
        is_referred=draw(st.none() | st.just(per_box(st.booleans()))),
        masks=draw(st.none() | st.just(per_box(st.binary(max_size=9)))),
        phrases=draw(st.none() | st.lists(st.builds(Phrase, span_lists, indices), max_size=3).map(tuple)),
        answer=draw(st.none() | texts),
        category_ids=draw(st.none() | st.just(per_box(st.integers(0, 2000)))),
        extra=draw(st.none() | texts.map(json.dumps)),
    )


@given(st.lists(records(), max_size=12), st.integers(1, 5))
@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_valid_records_survive_the_store(
    tmp_path: Path, drawn: list[Record], rows_per_group: int
) -> None:
    written = [replace(record, id=str(number)) for number, record in enumerate(drawn)]
    store = write_store(tmp_path / "store", written, None, overwrite=True, rows_per_group=rows_per_group)
    assert list(store) == written
    assert [store[row] for row in reversed(range(len(store)))] == written[::-1]


def test_images_are_found_beside_the_store_after_both_moved(tmp_path: Path, clevr_folder: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    clevr_folder.rename(before / "clevr")
    image = "images/val/CLEVR_val_000000.png"
    record = replace(make_record(0), image=image, width=96, height=64)
    write_store(before / "stores" / "val", [record], before / "clevr")
    before.rename(tmp_path / "after")
    store = Store.open(tmp_path / "after" / "stores" / "val")
    loaded = store.load_image(store[0])
    assert (loaded.shape, loaded.dtype) == ((3, 64, 96), torch.uint8)


def test_an_embedded_image_needs_no_root(tmp_path: Path, clevr_folder: Path) -> None:
    content = (clevr_folder / "images" / "val" / "CLEVR_val_000001.png").read_bytes()
    store = write_store(
        tmp_path / "store", [replace(make_record(0), image=content, width=96, height=64)], None
    )
    assert store.load_image(store[0]).shape == (3, 64, 96)


def test_an_image_of_another_size_than_its_record_is_refused(tmp_path: Path, clevr_folder: Path) -> None:
    record = replace(make_record(0), image="images/val/CLEVR_val_000000.png")
    store = write_store(tmp_path / "store", [record], clevr_folder)
    with pytest.raises(InvalidRecordError, match="60 x 40 pixels, but it has 96 x 64"):
        store.load_image(record)


class _Texts(Dataset[str]):
    def __init__(self, store: Store) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> str:
        return self.store[index].id


def test_workers_read_a_store_that_was_read_before(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", map(make_record, range(40)), tmp_path, rows_per_group=8)
    assert store[5].id == "5"
    loader = DataLoader(_Texts(store), batch_size=4, num_workers=2, multiprocessing_context="fork")
    assert [text for batch in loader for text in batch] == [str(number) for number in range(40)]


def test_a_store_pickles_as_little(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", map(make_record, range(2000)), tmp_path)
    list(store)
    content = pickle.dumps(store)
    assert len(content) < 2000
    assert pickle.loads(content)[1999] == store[1999]


def test_writing_and_reading_stream(tmp_path: Path) -> None:
    def many() -> Iterator[Record]:
        for number in range(20_000):
            yield make_record(number, text=f"two blue balls {number} " + "x" * 500)  # more than 10 MB of text

    tracemalloc.start()
    store = write_store(tmp_path / "store", many(), tmp_path)
    for row in range(0, 20_000, 100):
        store[row]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6


def test_a_bad_record_stops_the_writing_and_leaves_nothing(tmp_path: Path) -> None:
    bad = replace(make_record(1), spans=(((0, 99),),))
    with pytest.raises(
        InvalidRecordError, match=r"'1' of source 'tests', split 'val' breaks a rule: span \(0, 99\)"
    ):
        write_store(tmp_path / "store", [make_record(0), bad], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bad_records_can_be_left_out_and_listed(tmp_path: Path) -> None:
    bad = replace(make_record(1), text="")
    errors: list[InvalidRecordError] = []
    three = [make_record(0), bad, make_record(2), make_record(0)]
    store = write_store(tmp_path / "store", three, tmp_path, on_bad=errors.append)
    assert [record.id for record in store] == ["0", "2"]
    assert ["text is empty" in str(errors[0]), "is a duplicate" in str(errors[1])] == [True, True]


def test_an_existing_store_is_kept_unless_it_shall_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "store"
    write_store(path, [make_record(0)], tmp_path)
    with pytest.raises(InvalidInputError, match="already exists"):
        write_store(path, [make_record(1)], tmp_path)
    assert Store.open(path)[0].id == "0"
    with pytest.raises(RuntimeError):
        write_store(path, _fail_after(make_record(1)), tmp_path, overwrite=True)
    assert Store.open(path)[0].id == "0"
    write_store(path, [make_record(1)], tmp_path, overwrite=True)
    assert Store.open(path)[0].id == "1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def _fail_after(record: Record) -> Iterator[Record]:
    yield record
    raise RuntimeError("the source failed")


def test_a_folder_that_is_no_store_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_text("precious")
    with pytest.raises(InvalidInputError, match="is not a store, so it is not overwritten"):
        write_store(tmp_path / "photos", [make_record(0)], tmp_path, overwrite=True)
    assert (tmp_path / "photos" / "me.jpg").exists()


def test_a_stored_span_outside_its_text_is_told_with_its_row(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", map(make_record, range(3)), tmp_path)
    rows = [
        to_row(record)
        for record in (make_record(0), replace(make_record(1), spans=(((4, 88),),)), make_record(2))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "store" / "data-00000.parquet")
    store = Store.open(tmp_path / "store")
    assert store[0].id == "0"
    told = r"Row 1 of the store .*store: record '1' .*: span \(4, 88\) is outside its text of 14 characters"
    with pytest.raises(InvalidRecordError, match=told):
        store[1]


def _damage(store: Path, how: str) -> None:
    description = store / "store.json"
    shard = store / "data-00000.parquet"
    content = json.loads(description.read_text())
    if how == "no description":
        description.unlink()
    elif how == "half a description":
        description.write_text(description.read_text()[:20])
    elif how == "a list":
        description.write_text("[]")
    elif how == "fields missing":
        description.write_text('{"schema_version": 1}')
    elif how == "version":
        description.write_text(json.dumps({**content, "schema_version": 99}))
    elif how == "rows":
        description.write_text(json.dumps({**content, "rows": 7}))
    elif how == "no shard":
        shard.unlink()
    elif how == "half a shard":
        shard.write_bytes(shard.read_bytes()[:100])
    elif how == "columns":
        pq.write_table(pa.table({"text": ["a"] * 3}), shard)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("no description", r"is not a store: it has no store\.json"),
        ("half a description", "is damaged"),
        ("a list", "is damaged"),
        ("fields missing", "is damaged"),
        ("version", "schema version 99, this program reads 1"),
        ("rows", "should have 7 rows but its files hold 3"),
        ("no shard", r"data-00000\.parquet is missing"),
        ("half a shard", "is not a readable Parquet file"),
        ("columns", "lacks the columns .*boxes"),
    ],
)
def test_a_damaged_store_says_what_is_wrong(tmp_path: Path, how: str, told: str) -> None:
    write_store(tmp_path / "store", map(make_record, range(3)), tmp_path)
    _damage(tmp_path / "store", how)
    with pytest.raises(InvalidInputError, match=told):
        Store.open(tmp_path / "store")


def test_a_store_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"There is no store at .*mdetr data import"):
        Store.open(tmp_path / "nowhere")


def test_boxes_keep_float32_precision(tmp_path: Path) -> None:
    record = replace(make_record(0), boxes=((0.1, 0.2, 0.3, 0.4),))
    store = write_store(tmp_path / "store", [record], tmp_path)
    assert store[0].boxes[0] == tuple(np.float32([0.1, 0.2, 0.3, 0.4]).tolist())


def test_a_full_disk_leaves_nothing_behind_and_the_old_store_whole(tmp_path: Path) -> None:
    """A real process that may write files of 64 KiB only, which fails like a disk without space."""
    pytest.importorskip("resource")
    program = """
import random, resource, sys
from dataclasses import replace
from mdetr.data.record import Record
from mdetr.data.store import write_store
from mdetr.errors import InvalidInputError

def records(count):
    for number in range(count):
        text = "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=100))
        yield Record("test", "train", str(number), "a.png", "a", 10, 10, text)

write_store(sys.argv[1], records(3), None)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))
try:
    write_store(sys.argv[1], records(20000), None, overwrite=True)
except InvalidInputError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "store")], capture_output=True, text=True, check=True
    )
    assert "could not be written" in run.stdout
    assert "free some space" in run.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert len(Store.open(tmp_path / "store")) == 3
