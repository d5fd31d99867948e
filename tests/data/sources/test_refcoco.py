"""RefCOCO's own files against the released records, and files that must not be trusted."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from mdetr.data.root_phrase import load_parser
from mdetr.data.sources.refcoco import read_refcoco
from mdetr.errors import InvalidInputError, InvalidRecordError

FOLDER = Path(__file__).parents[2] / "fixtures" / "sources" / "refcoco"


@pytest.mark.parametrize("split", ["train", "val"])
def test_records_are_those_of_the_release(split: str) -> None:
    release = json.loads((FOLDER / "expected.json").read_text())[split]
    by_image = {annotation["image_id"]: annotation for annotation in release["annotations"]}
    expected = [
        (image["caption"], image["original_id"], image["file_name"], by_image[image["id"]]["bbox"])
        for image in release["images"]
    ]
    records = list(read_refcoco(FOLDER / "raw", split))
    found = [
        (record.text, int(record.image_id), record.image, [x0, y0, x1 - x0, y1 - y0])
        for record in records
        for x0, y0, x1, y1 in record.boxes
    ]
    assert sorted(found) == sorted(expected)
    assert all(record.is_referred == (True,) for record in records)
    spans = sorted((r.text, [list(span) for span in r.spans[0]]) for r in records)
    wanted = sorted((i["caption"], by_image[i["id"]]["tokens_positive"]) for i in release["images"])
    same = sum(one == other for one, other in zip(spans, wanted, strict=True))
    if load_parser() is not None:
        assert same == len(wanted)
    else:  # the plain rule; expressions such as "woman on left" are parsed otherwise
        assert same >= 0.4 * len(wanted)


class _Foreign:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("made-by-the-pickle",)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER / "raw", tmp_path / "raw"))


def test_a_pickle_with_code_is_refused_and_not_run(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (copy / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps([{"split": _Foreign()}]))
    with pytest.raises(InvalidInputError, match=r"holds only texts and numbers: it imports .*mkdir"):
        list(read_refcoco(copy, "train"))
    assert not Path("made-by-the-pickle").exists()


def test_truncated_missing_and_unknown_files_and_splits_are_refused(copy: Path) -> None:
    with pytest.raises(InvalidInputError, match="no split 'testA'; its splits are: train, val"):
        list(read_refcoco(copy, "testA"))
    with pytest.raises(InvalidInputError, match="Expected as data set one of refcoco"):
        list(read_refcoco(copy, "val", dataset="refclef"))
    with pytest.raises(InvalidInputError, match=r"There is no .*refs\(umd\)\.p"):
        list(read_refcoco(copy, "val", dataset="refcocog"))
    refs = copy / "refcoco" / "refs(unc).p"
    refs.write_bytes(refs.read_bytes()[:200])
    with pytest.raises(InvalidInputError, match="is not opened"):
        list(read_refcoco(copy, "val"))


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("red cube", "it must be an object with fields, got the text 'red cube'"),
        ({"sent": None, "sent_id": 7}, 'its "sent" must be a text, got null'),
        ({"sent": "a \ud83d", "sent_id": 7}, 'its "sent" is not valid Unicode'),
        ({"sent": "red cube", "sent_id": ["7"]}, 'its "sent_id" must be a text or a whole number'),
    ],
)
def test_an_odd_sentence_is_refused_with_its_place_or_listed(copy: Path, sentence: Any, told: str) -> None:
    file = copy / "refcoco" / "refs(unc).p"
    refs = pickle.loads(file.read_bytes())
    first = next(place for place, ref in enumerate(refs) if ref["split"] == "val")
    whole = len(list(read_refcoco(copy, "val")))
    refs[first]["sentences"][0] = sentence
    file.write_bytes(pickle.dumps(refs))
    with pytest.raises(InvalidRecordError, match=rf"refs\(unc\)\.p, reference {first}, sentence 0: {told}"):
        list(read_refcoco(copy, "val"))
    bad: list[InvalidRecordError] = []
    assert len(list(read_refcoco(copy, "val", bad.append))) == whole - 1
    assert len(bad) == 1


def test_a_reference_to_a_missing_annotation_is_refused_or_listed(copy: Path) -> None:
    file = copy / "coco" / "annotations" / "instances_train2014.json"
    content = json.loads(file.read_text())
    lost = content["annotations"].pop(0)
    file.write_text(json.dumps(content))
    bad: list[InvalidRecordError] = []
    kept = list(read_refcoco(copy, "train", bad.append)) + list(read_refcoco(copy, "val", bad.append))
    assert bad
    assert str(lost["id"]) in str(bad[0])
    assert len(kept) + len(bad) == 23
