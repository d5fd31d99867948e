from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mdetr.labeling.results import ImageLabels, failed_image, read_results, write_results
from mdetr.processing.detections import Detections

CLASSES = ImageLabels(
    "a.jpg",
    80,
    60,
    None,
    Detections(
        np.array([[1, 2, 3, 4], [5, 6, 7, 8], [5, 6, 7, 9]], np.float32),
        np.array([0.9, 0.72, 0.6], np.float32),
        phrases=("a puppy", "a dog", "a cat"),
        labels=("dog", "dog", "cat"),
    ),
    np.array([0.7, 0.7, 0.7], np.float32),
)
CAPTION = ImageLabels(
    "b.jpg",
    10,
    20,
    "a cat and a cat",
    Detections(np.ones((1, 4), np.float32), [0.8], phrases=("a cat",), spans=(((0, 5), (10, 15)),)),  # type: ignore[arg-type]
    np.array([0.7], np.float32),
)


def test_labels_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "results.parquet"
    write_results(file, [CLASSES, failed_image("x.jpg", "It is damaged."), CAPTION])
    classes, failed, caption = read_results(file)
    assert classes.detections.to_dict() == CLASSES.detections.to_dict()
    assert (classes.image, classes.width, classes.height, classes.text) == ("a.jpg", 80, 60, None)
    assert (failed.image, failed.error, len(failed.detections)) == ("x.jpg", "It is damaged.", 0)
    assert caption.detections.to_dict() == CAPTION.detections.to_dict()
    assert caption.text == "a cat and a cat"


def test_labels_reach_their_threshold_and_unsure_boxes_are_near_it() -> None:
    assert CLASSES.is_accepted.tolist() == [True, True, False]
    assert CLASSES.accepted.names == ("dog", "dog")
    assert CLASSES.is_unsure(0.05).tolist() == [False, True, False]
    assert CLASSES.is_unsure(0.11).tolist() == [False, True, True]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield CLASSES
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_results(tmp_path / "results.parquet", broken())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
