"""Visual Genome: objects tied to words, root boxes, repetitions, oddities of the real files, damage."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mdetr.data.record import Record
from mdetr.data.sources.visual_genome import read_visual_genome
from mdetr.errors import InvalidInputError, InvalidRecordError

IMAGES = [
    {
        "image_id": 1,
        "width": 800,
        "height": 600,
        "coco_id": None,
        "flickr_id": None,
        "url": "https://a/VG_100K_2/1.jpg",
    },
    {
        "image_id": 2,
        "width": 100,
        "height": 80,
        "coco_id": 9,
        "flickr_id": None,
        "url": "https://a/VG_100K/2.jpg",
    },
]


def _region(number: int, phrase: str, box: tuple[int, int, int, int], **more: Any) -> dict[str, Any]:
    x, y, width, height = box
    return {
        "region_id": number,
        "image_id": 1,
        "phrase": phrase,
        "x": x,
        "y": y,
        "width": width,
        "height": height,
    } | more


def _thing(synset: str, x: int, y: int, w: int, h: int) -> dict[str, Any]:
    return {"object_id": x, "name": synset.split(".")[0], "synsets": [synset], "x": x, "y": y, "w": w, "h": h}


def _synset(name: str, phrase: str) -> dict[str, Any]:
    word = name.split(".")[0]
    start = phrase.index(word)
    return {
        "entity_name": word,
        "synset_name": name,
        "entity_idx_start": start,
        "entity_idx_end": start + len(word),
    }


def _write(folder: Path, **files: Any) -> Path:
    for name, content in {"image_data": IMAGES, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def _told(record: Record) -> list[tuple[tuple[float, ...], list[str]]]:
    return [
        (box, [record.text[start:end] for start, end in spans])
        for box, spans in zip(record.boxes, record.spans, strict=True)
    ]


def test_synsets_that_occur_once_tie_objects_to_words(tmp_path: Path) -> None:
    phrase = "a  man with a hat ,, on a bench"
    synsets = [_synset(name, phrase) for name in ("man.n.01", "hat.n.01")]
    synsets += [{**_synset("bench.n.01", phrase)}, {**_synset("bench.n.01", phrase)}]  # twice: not used
    things = [
        _thing("man.n.01", 10, 20, 100, 200),
        _thing("hat.n.01", 30, 20, 40, 30),
        _thing("bench.n.01", 0, 0, 9, 9),
    ]
    region = _region(7, phrase, (5, 5, 300, 300), objects=things, synsets=synsets)
    (record,) = read_visual_genome(
        _write(tmp_path, region_graphs=[{"image_id": 1, "regions": [region]}]), "train"
    )
    assert record.text == "a man with a hat , on a bench"
    assert _told(record) == [((10, 20, 110, 220), ["a", "man"]), ((30, 20, 70, 50), ["hat"])]
    assert (record.image, record.image_id, record.id) == ("VG_100K_2/1.jpg", "1", "7")
    assert (record.width, record.height) == (800, 600)


def test_a_region_without_a_root_object_is_its_own_box(tmp_path: Path) -> None:
    phrase = "shade along the street"
    region = _region(
        7,
        phrase,
        (5, 5, 300, 300),
        objects=[_thing("street.n.01", 0, 0, 700, 500)],
        synsets=[_synset("street.n.01", phrase)],
    )
    (record,) = read_visual_genome(
        _write(tmp_path, region_graphs=[{"image_id": 1, "regions": [region]}]), "train"
    )
    assert _told(record) == [((5, 5, 305, 305), ["shade"]), ((0, 0, 700, 500), ["street"])]


def test_boxes_that_agree_are_one(tmp_path: Path) -> None:
    phrase = "two dogs"
    things = [
        _thing("dogs.n.01", 10, 10, 100, 100),
        _thing("dogs.n.01", 11, 10, 100, 100),
        _thing("dogs.n.01", 300, 10, 50, 50),
    ]
    region = _region(7, phrase, (5, 5, 300, 300), objects=things, synsets=[_synset("dogs.n.01", phrase)])
    (record,) = read_visual_genome(
        _write(tmp_path, region_graphs=[{"image_id": 1, "regions": [region]}]), "train"
    )
    assert record.boxes == ((11, 10, 111, 110), (300, 10, 350, 60))


def test_descriptions_alone_use_objects_by_name_place_and_attribute(tmp_path: Path) -> None:
    region = _region(7, "A man in a red shirt", (200, 200, 200, 200))
    attributes = [
        {"names": ["man"], "object_id": 1, "x": 210, "y": 210, "w": 100, "h": 150},
        {"names": ["man"], "object_id": 2, "x": 500, "y": 210, "w": 100, "h": 150},  # elsewhere
        {"names": ["shirt"], "object_id": 3, "x": 220, "y": 220, "w": 50, "h": 50, "attributes": ["red "]},
        {"names": ["shirt"], "object_id": 4, "x": 300, "y": 220, "w": 50, "h": 50, "attributes": ["blue"]},
    ]
    folder = _write(
        tmp_path,
        region_descriptions=[{"id": 1, "regions": [region]}],
        attributes=[{"image_id": 1, "attributes": attributes}],
        objects=[{"image_id": 1, "objects": []}],
    )
    (record,) = read_visual_genome(folder, "train")
    assert _told(record) == [((210, 210, 310, 360), ["A", "man"]), ((220, 220, 270, 270), ["shirt"])]
    (folder / "attributes.json").unlink()
    (record,) = read_visual_genome(folder, "train")
    assert _told(record) == [((200, 200, 400, 400), ["A", "man"])]


def test_repetitions_and_what_says_nothing_are_left_out(tmp_path: Path) -> None:
    regions = [
        _region(1, "the dogs are on the grass", (0, 0, 100, 100)),
        _region(2, "a dog on grass", (5, 5, 100, 100)),  # the same words and place
        _region(3, "dog on the grass", (400, 400, 100, 100)),  # elsewhere
        _region(4, "side of a building", (0, 0, 50, 50)),
        _region(5, "  ", (0, 0, 50, 50)),
        _region(6, "a cat", (900, 10, 50, 50)),  # outside the image
        _region(7, "a bird", (-10, 590, 50, 50)),  # across its border
    ]
    folder = _write(tmp_path, region_descriptions=[{"id": 1, "regions": regions}, {"id": 2, "regions": []}])
    left_out: Counter[str] = Counter()
    records = {record.id: record for record in read_visual_genome(folder, "train", left_out=left_out)}
    assert sorted(records) == ["1", "3", "7"]
    assert left_out == {
        "regions that repeat another of their image": 1,
        "regions whose phrase is empty, or of nothing but wall, side or building": 2,
        "regions outside their image": 1,
    }
    assert records["7"].boxes == ((0, 590, 40, 600),)


def test_the_region_with_most_boxes_stands_for_its_repetitions(tmp_path: Path) -> None:
    phrase = "a dog on grass"
    things = [_thing("dog.n.01", 10, 10, 30, 30), _thing("grass.n.01", 0, 0, 100, 100)]
    synsets = [_synset("dog.n.01", phrase), _synset("grass.n.01", phrase)]
    regions = [
        _region(1, "the dog on the grass", (0, 0, 100, 100), objects=[], synsets=[]),
        _region(2, phrase, (0, 0, 100, 100), objects=things, synsets=synsets),
    ]
    folder = _write(tmp_path, region_graphs=[{"image_id": 1, "regions": regions}])
    assert [record.id for record in read_visual_genome(folder, "train")] == ["2"]


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"There is no file .*image_data\.json"):
        list(read_visual_genome(tmp_path, "train"))
    _write(tmp_path)
    with pytest.raises(
        InvalidInputError, match=r"neither .*region_graphs\.json nor .*region_descriptions\.json"
    ):
        list(read_visual_genome(tmp_path, "train"))
    good = {"id": 1, "regions": [_region(1, "a dog", (0, 0, 100, 100))]}
    lost = {"id": 77, "regions": [_region(2, "a dog", (0, 0, 100, 100))]}
    broken = {"id": 2, "regions": [{"region_id": 3}]}
    folder = _write(tmp_path, region_descriptions=[good, lost, broken])
    with pytest.raises(InvalidRecordError, match="entry 1: image 77 is not in"):
        list(read_visual_genome(folder, "train"))
    errors: list[InvalidRecordError] = []
    assert len(list(read_visual_genome(folder, "train", errors.append))) == 1
    assert len(errors) == 2
    good["regions"][0]["phrase"] = None
    folder = _write(tmp_path, region_descriptions=[good])
    with pytest.raises(InvalidRecordError, match='region 1: its "phrase" must be a text'):
        list(read_visual_genome(folder, "train"))
    (folder / "region_descriptions.json").write_text('[{"id": 1, "regions"')
    with pytest.raises(InvalidInputError, match="may be cut off"):
        list(read_visual_genome(folder, "train"))
