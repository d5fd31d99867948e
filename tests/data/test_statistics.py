"""What a store holds, counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mdetr.data.record import Record
from mdetr.data.statistics import store_statistics
from mdetr.data.store import write_store


def test_figures_of_a_small_store(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    plain = Record("made", "train", "1", "a.png", "a", 40, 30, "a cat here")
    records = [
        replace(plain, boxes=((0, 0, 9, 9), (1, 1, 5, 5)), spans=(((0, 5),), ())),
        replace(plain, id="2", text="how many cats?", answer="2", answer_type="reg"),
        replace(plain, id="3", image="b.png", image_id="b", split="val", text="x" * 251),
    ]
    store = write_store(tmp_path / "store", records, tmp_path)
    found = store_statistics(store)
    assert (found.rows, found.images, found.boxes, found.masks) == (3, 2, 2, 0)
    assert found.boxes_per_row == (0, 0, 2)
    assert found.text_length == (10, 14, 251)
    assert found.coverage == 0.5
    assert found.sources == {"made/train": 2, "made/val": 1}
    assert found.answer_types == {"reg": 1}
    assert found.problems == {
        "rows with a box without words": 1,
        "rows with more than 250 characters": 1,
        "images that are missing": 1,
    }


def test_an_empty_store_has_nothing(tmp_path: Path) -> None:
    found = store_statistics(write_store(tmp_path / "store", [], tmp_path))
    assert (found.rows, found.coverage, found.text_length, found.problems) == (0, 0, (0, 0, 0), {})
