"""Images inside records: the files' own bytes, read back through a store and as a stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mdetr.data import store as store_module
from mdetr.data.embedding import embed_image_files
from mdetr.data.record import Record
from mdetr.data.store import Store, write_store
from mdetr.data.streaming import stream_records
from mdetr.errors import InvalidRecordError


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Two records of one image and one of another, in the folder `pictures`."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name, gray in (("a.png", 10), ("b.jpg", 200)):
        Image.fromarray(np.full((20, 30, 3), gray, np.uint8)).save(pictures / name)
    names = ["a.png", "a.png", "b.jpg"]
    boxes, spans = ((1.0, 2.0, 3.0, 4.0),), (((0, 1),),)
    return [
        Record("test", "train", str(n), name, name, 30, 20, "a thing", boxes, spans)
        for n, name in enumerate(names)
    ]


def test_a_store_with_embedded_images_needs_no_other_file(records: list[Record], tmp_path: Path) -> None:
    write_store(tmp_path / "store", embed_image_files(records, tmp_path / "pictures"), None)
    raw = (tmp_path / "pictures" / "b.jpg").read_bytes()
    for path in (tmp_path / "pictures").iterdir():
        path.unlink()
    store = Store.open(tmp_path / "store")
    assert store[2].image == raw
    assert torch.equal(store.load_image(store[0]), torch.full((3, 20, 30), 10, dtype=torch.uint8))


def test_many_bytes_of_images_are_divided_among_files(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (tmp_path / "pictures" / "a.png").stat().st_size
    monkeypatch.setattr(store_module, "_BYTES_PER_SHARD", size + 1)
    embedded = embed_image_files(records, tmp_path / "pictures")
    store = write_store(tmp_path / "store", embedded, None, rows_per_group=1)
    assert store.num_shards == 2  # the first two together are more than one image
    assert [record.id for record in store] == ["0", "1", "2"]


def test_such_a_store_streams(records: list[Record], tmp_path: Path) -> None:
    write_store(tmp_path / "store", embed_image_files(records, tmp_path / "pictures"), None)
    streamed = list(stream_records(str(tmp_path / "store")))
    assert streamed == list(Store.open(tmp_path / "store"))
    shuffled = list(stream_records(str(tmp_path / "store"), shuffle=3, seed=1))
    assert sorted(record.id for record in shuffled) == ["0", "1", "2"]


def test_a_store_of_names_does_not_stream(records: list[Record], tmp_path: Path) -> None:
    write_store(tmp_path / "store", records, tmp_path / "pictures")
    with pytest.raises(InvalidRecordError, match=r"names an image instead of holding it.*--embed-images"):
        list(stream_records(str(tmp_path / "store")))


def test_an_image_that_does_not_fit_is_named_or_left_out(records: list[Record], tmp_path: Path) -> None:
    Image.fromarray(np.zeros((21, 30, 3), np.uint8)).save(tmp_path / "pictures" / "b.jpg")
    (tmp_path / "pictures" / "a.png").unlink()
    with pytest.raises(InvalidRecordError, match=r"a\.png is missing or not an image"):
        list(embed_image_files(records, tmp_path / "pictures"))
    errors: list[InvalidRecordError] = []
    assert list(embed_image_files(records, tmp_path / "pictures", errors.append)) == []
    assert "30 x 21 pixels, not 30 x 20" in str(errors[2])
