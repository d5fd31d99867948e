"""Odd entries of annotation files: masks, ids, references and paths, given to `mdetr data import`."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from mdetr.data.store import Store
from mdetr.processing.rle import decode_masks
from tests.corpus.cases import OUTPUT, Case, Refused, command
from tests.data.sources.samples import SAMPLES, H, W

NAN, INF = float("nan"), float("inf")
_COCO = SAMPLES["coco"].files["c.json"]
_SQUARE = [2, 2, 12, 2, 12, 9, 2, 9]


def _store(folder: Path, source: str, content: Any, *options: str) -> Store:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (W, H)).save(folder / name)
    (folder / "c.json").write_text(json.dumps(content))
    command("data", "import", source, folder / "c.json", folder / OUTPUT, *options)
    return Store.open(folder / OUTPUT)


def _mask(segmentation: Any, source: str = "coco", *options: str) -> Callable[[Path], object]:
    """Import a mask, and return how many pixels it has."""

    def act(folder: Path) -> object:
        content = copy.deepcopy(SAMPLES["official"].files["o.json"] if source == "official" else _COCO)
        content["annotations"][0]["segmentation"] = segmentation
        content["annotations"].append(content["annotations"][0] | {"id": 6, "segmentation": [_SQUARE]})
        areas = []
        for record in _store(folder, source, content, *options):
            masks = decode_masks(record.masks or (), record.height, record.width)
            areas.append([int(mask.sum()) for mask in masks])
        return areas

    return act


def _rle(counts: Any, size: Any = (H, W)) -> dict[str, Any]:
    return {"counts": counts, "size": list(size)}


_ALL = H * W
_HUGE = 10**400
CASES: list[Case] = []
for name, segmentation, area in (
    ("a polygon", [_SQUARE], 70),
    ("two polygons", [_SQUARE, [20, 20, 30, 20, 30, 30, 20, 30]], 170),
    ("a polygon and a line", [_SQUARE, [1, 1, 2, 2]], 70),
    ("a polygon beyond the image", [[-50, -50, 200, -50, 200, 200, -50, 200]], _ALL),
    ("a polygon of 10,000,000 pixels", [[-1e7, -1e7, 1e7, -1e7, 1e7, 1e7, -1e7, 1e7]], _ALL),
    ("a polygon of 1e300 pixels", [[-1e300, -1e300, 1e300, -1e300, 1e300, 1e300, -1e300, 1e300]], _ALL),
    ("a polygon of numbers beyond all floats", [[0, 0, _HUGE, 0, _HUGE, _HUGE, 0, _HUGE]], _ALL),
    ("a polygon of 30,000 points", [_SQUARE[:6] * 5000 + _SQUARE], 70),
    ("run lengths", _rle([0, _ALL]), _ALL),
    ("run lengths with zeros first", _rle([_ALL - 5, 5]), 5),
    ("compressed run lengths", _rle("kZ25"), 5),
):
    if area is not None:
        CASES.append(Case(f"mask: {name}", _mask(segmentation), [[area, 70]]))
        CASES.append(
            Case(f"mask of the released format: {name}", _mask(segmentation, "official"), [[area, 70]])
        )
for name, segmentation, words in (
    ("a polygon with NaN", [[2, 2, NAN, 2, 12, 9]], "not finite"),
    ("a polygon with an infinite value", [[2, 2, INF, 2, 12, 9]], "not finite"),
    ("a polygon of texts", [["2", "2", "12", "2", "12", "9"]], "list of numbers"),
    ("a polygon of an odd number of values", [[2, 2, 12, 2, 12]], "alternating"),
    ("a polygon of null", [None], "list of numbers"),
    ("a polygon of points", [[[2, 2], [12, 2], [12, 9]]], "list of numbers"),
    ("lines only", [[1, 1, 2, 2]], "three points"),
    ("an empty polygon", [[]], "three points"),
    ("a polygon outside the image", [[100, 100, 120, 100, 120, 120]], "outside the image"),
    ("a flat list", _SQUARE, "list of numbers"),
    ("a text", "polygon", "list of polygons"),
    ("a number", 7, "list of polygons"),
    ("true", True, "list of polygons"),
    ("an empty object", {}, "run lengths"),
    ("run lengths of another size", _rle([0, _ALL], (W, H)), "size"),
    ("run lengths of a size of texts", _rle([0, _ALL], ("a", "b")), "size"),
    ("run lengths that are too short", _rle([1, 2, 3]), "make 6 pixels"),
    ("run lengths that are too long", _rle([0, _ALL, 9]), "pixels"),
    ("negative run lengths", _rle([-5, _ALL + 5]), "non-negative"),
    ("run lengths of floats", _rle([0.5, _ALL - 0.5]), "non-negative"),
    ("run lengths of texts", _rle(["0", str(_ALL)]), "non-negative"),
    ("run lengths beyond all numbers", _rle([10**30]), "pixels"),
    ("run lengths without a pixel", _rle([_ALL]), "no pixel"),
    ("compressed run lengths that are cut", _rle("0Q"), ""),
    ("compressed run lengths of nothing", _rle(""), ""),
    ("compressed run lengths of garbage", _rle("o" * 40), "run lengths"),
    ("compressed run lengths of other letters", _rle("é" * 9), "compressed"),
    ("a million compressed run lengths", _rle("1" * 1_000_000), ""),
):
    CASES.append(Case(f"mask: {name}", _mask(segmentation), Refused(words)))
    if name in ("a polygon with NaN", "run lengths that are too short", "a text"):
        CASES.append(
            Case(f"mask of the released format: {name}", _mask(segmentation, "official"), Refused(words))
        )
        CASES.append(
            Case(
                f"mask, skipped: {name}",
                _mask(segmentation, "coco", "--skip-bad"),
                Refused("No usable record"),
            )
        )


# Ids, references and paths of COCO's format
def _with(change: Callable[[dict[str, Any]], Any], *options: str) -> Callable[[Path], object]:
    """Import a file that is changed, and return its images and the number of boxes in each record."""

    def act(folder: Path) -> object:
        content = copy.deepcopy(_COCO)
        change(content)
        return [(record.image, len(record.boxes)) for record in _store(folder, "coco", content, *options)]

    return act


def _set(part: str, **fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content[part][0].update(fields)


def _twice(part: str, **fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content[part].append(content[part][0] | fields)


def _without(part: str, field: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content[part][0].pop(field)


_ONE = [("a.png", 1)]
for name, change, expected in (
    ("ids as texts", lambda c: (_set("images", id="x")(c), _set("annotations", image_id="x")(c)), _ONE),
    ("ids as quoted numbers", _set("annotations", image_id="1", category_id="7"), _ONE),
    (
        "ids of 10**30",
        lambda c: (_set("images", id=10**30)(c), _set("annotations", image_id=10**30)(c)),
        _ONE,
    ),
    ("two annotations of one id", _twice("annotations"), [("a.png", 2)]),
    ("fields that nobody knows", _set("annotations", keypoints=[1, 2], other={"a": [None]}), _ONE),
    ("numbers as texts", _set("annotations", bbox=["2", "2", "10", "7"]), _ONE),
    ("a box beyond the image", _set("annotations", bbox=[-5, -5, 500, 500]), _ONE),
    ("a name with white space", _set("categories", name=" red_cube "), _ONE),
    (
        "5,000 annotations of an image",
        lambda c: c["annotations"].extend(c["annotations"] * 4999),
        [("a.png", 5000)],
    ),
    ("a path with a backslash", _set("images", file_name=".\\a.png"), [("./a.png", 1)]),
    ("a path with dots", _set("images", file_name="x/../a.png"), [("x/../a.png", 1)]),
):
    CASES.append(Case(f"coco: {name}", _with(change), expected))
for name, change, words in (
    ("two images of one id", _twice("images"), "duplicate"),
    ("an image without id", _without("images", "id"), "id"),
    ("an image without width", _without("images", "width"), "width"),
    ("an image of no size", _set("images", width=0, height=0), "must be positive"),
    ("an image of negative size", _set("images", width=-60), ""),
    ("an image of 1e9 x 1e9", _set("images", width=10**9, height=10**9), ""),
    ("an image of NaN", _set("images", width=NAN), "width"),
    ("a file name that is null", _set("images", file_name=None), "file_name"),
    ("a file name that is empty", _set("images", file_name=""), ""),
    ("a file name with half a character", _set("images", file_name="\ud83d.png"), "Unicode"),
    ("an annotation without image", _set("annotations", image_id=99), "no entry"),
    ("an annotation without box", _without("annotations", "bbox"), "bbox"),
    ("an annotation without class", _without("annotations", "category_id"), "category_id"),
    ("an annotation of an unknown class", _set("annotations", category_id=99), "99"),
    ("an annotation that is null", lambda c: c["annotations"].append(None), "annotation 1"),
    ("an annotation that is a list", lambda c: c["annotations"].append([]), "annotation 1"),
    ("an id that is a list", _set("annotations", image_id=[1]), "image_id"),
    ("an id that is true", _set("annotations", image_id=True), "image_id"),
    ("a class without name", _without("categories", "name"), "name"),
    ("a class whose name is null", _set("categories", name=None), "name"),
    ("a class whose name is empty", _set("categories", name=""), ""),
    ("a class whose id is a word", _set("categories", id="cube"), "whole number"),
    ("a box of three numbers", _set("annotations", bbox=[1, 2, 3]), "four numbers"),
    ("a box with NaN", _set("annotations", bbox=[1, 2, NAN, 3]), "not finite"),
    ("crowds in words", _set("annotations", iscrowd="no"), "iscrowd"),
    ("a negative area", _set("annotations", area=-1), "area"),
    ("an area of words", _set("annotations", area="large"), "area"),
    ("no images", lambda c: c.pop("images"), "images"),
    ("images that are an object", lambda c: c.update(images={"1": {}}), ""),
    ("annotations that are null", lambda c: c.update(annotations=None), ""),
    ("nothing but crowds", _set("annotations", iscrowd=1), "No usable record"),
):
    CASES.append(Case(f"coco: {name}", _with(change), Refused(words)))
CASES += [
    Case(
        "coco: a bad annotation beside a good one, skipped",
        _with(_twice("annotations", image_id=1, id=6, bbox=[NAN] * 4), "--skip-bad"),
        Refused("No usable record"),
    ),
    Case(
        "coco: a bad image beside a good one, skipped",
        _with(lambda c: c["images"].append({"id": 2, "file_name": None}), "--skip-bad"),
        _ONE,
    ),
]


# Lines of JSON with odd keys and ids
def _lines(*lines: Any, options: tuple[str, ...] = ()) -> Callable[[Path], object]:
    def act(folder: Path) -> object:
        Image.new("RGB", (W, H)).save(folder / "a.png")
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (folder / "a.jsonl").write_text("\n".join(texts), encoding="utf-8", errors="surrogatepass")
        command("data", "import", "jsonl", folder / "a.jsonl", folder / OUTPUT, *options)
        return [record.id for record in Store.open(folder / OUTPUT)]

    return act


_LINE = {"image": "a.png", "text": "a red cube"}
CASES += [
    Case("jsonl: blank lines", _lines("", _LINE, "  ", _LINE, "\t"), ["2", "4"]),
    Case("jsonl: an id that is a number", _lines(_LINE | {"id": 7}), ["7"]),
    Case("jsonl: an id with odd characters", _lines(_LINE | {"id": "../\0🐈"}), ["../\0🐈"]),
    Case("jsonl: two lines of one id", _lines(_LINE | {"id": 1}, _LINE | {"id": "1"}), Refused("duplicate")),
    Case("jsonl: an id like the number of a line", _lines(_LINE | {"id": 2}, _LINE), Refused("duplicate")),
    Case("jsonl: a key twice", _lines('{"image": "a.png", "text": "x", "text": "y"}'), ["1"]),
    Case("jsonl: an unknown key", _lines(_LINE | {"captoin": "x"}), Refused("unknown field 'captoin'")),
    Case("jsonl: a line that is a list", _lines([]), Refused("expected an object")),
    Case("jsonl: a line without text", _lines({"image": "a.png"}), Refused('"image" and "text"')),
    Case(
        "jsonl: an answer of an unknown type",
        _lines(_LINE | {"answer": "a", "answer_type": "x"}),
        Refused(""),
    ),
    Case(
        "jsonl: scores of NaN", _lines(_LINE | {"scores": [NAN], "boxes": [[1, 2, 3, 4]]}), Refused("finite")
    ),
    Case(
        "jsonl: fewer scores than boxes",
        _lines(_LINE | {"scores": [], "boxes": [[1, 2, 3, 4]]}),
        Refused("scores"),
    ),
    Case("jsonl: an image that is missing", _lines(_LINE | {"image": "b.png"}), Refused("--images")),
    Case("jsonl: an image that is a folder", _lines(_LINE | {"image": "."}), Refused("--images")),
    Case(
        "jsonl: an image that is the file itself",
        _lines(_LINE | {"image": "a.jsonl"}),
        Refused("not an image"),
    ),
    Case("jsonl: a bad line beside a good one, skipped", _lines("{", _LINE, options=("--skip-bad",)), ["2"]),
    Case("jsonl: a number of 5,000 digits", _lines('{"image": 1' + "0" * 5000 + "}"), Refused("line 1")),
]
