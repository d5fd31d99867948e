"""What spoils training is found, counted and shown; what does not, is not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mdetr.data.checks.check_data import CheckedData, CheckOptions, Report, check_data
from mdetr.data.checks.findings import Finding
from mdetr.data.record import Phrase, Record
from mdetr.data.store import write_store
from mdetr.errors import InvalidInputError

CAT = Record(
    *("made", "train", "1", "a.png", "a", 640, 480, "a cat here"),
    boxes=((9, 7, 80, 60),),
    spans=(((0, 5),),),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of 640 x 480 pixels, of which b.png and c.png hold the same bytes."""
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    for name in "bc":
        Image.new("RGB", (640, 480), "red").save(tmp_path / f"{name}.png")
    return tmp_path


def _check(folder: Path, records: Iterable[Record], **options: Any) -> dict[str, Finding]:
    store = write_store(folder / "store", records, folder, overwrite=True)
    return _by_name(check_data([CheckedData(store.path)], CheckOptions(**options)))


def _by_name(report: Report) -> dict[str, Finding]:
    return {finding.kind.name: finding for finding in report.findings}


def test_in_good_data_nothing_is_found(folder: Path) -> None:
    question = replace(CAT, id="2", text="how many?", boxes=(), spans=(), answer="2", answer_type="reg")
    assert _check(folder, [CAT, question], read_images=True) == {}


@pytest.mark.parametrize(
    ("text", "start", "end", "expected"),
    [
        ("two teapots", 4, 7, "'tea' is a part of 'teapots'"),
        ("a T-shirt", 4, 9, "'shirt' is a part of 'T-shirt'"),
        ("a cat here", 0, 6, "'a cat ' begins or ends with a space"),
        ("ein Kätzchen", 4, 6, "'Kä' is a part of 'Kätzchen'"),
        ("고양이가 있다", 1, 3, "'양이' is a part of '고양이'"),
    ],
)
def test_spans_that_cut_words_are_found(folder: Path, text: str, start: int, end: int, expected: str) -> None:
    found = _check(folder, [replace(CAT, text=text, spans=(((start, end),),))])
    (example,) = found.pop("cut-words").examples
    assert not found
    assert (example.record, example.what, example.where) == ("1", expected, str(folder / "store"))


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("the cat's hat", 0, 7),
        ("a (red) cat, there", 3, 6),
        ("一只猫在垫子上", 2, 3),
        ("고양이가 있다", 0, 3),
        ("a T-shirt", 2, 9),
    ],
)
def test_spans_of_whole_words_are_fine_in_any_script(folder: Path, text: str, start: int, end: int) -> None:
    assert _check(folder, [replace(CAT, text=text, spans=(((start, end),),))]) == {}


def test_boxes_without_words_and_words_without_boxes_are_found(folder: Path) -> None:
    records = [
        replace(CAT, boxes=((9, 7, 80, 60), (1, 2, 30, 40)), spans=(((0, 5),), ())),
        replace(CAT, id="2", text="a dog", boxes=(), spans=()),
        replace(CAT, id="3", phrases=(Phrase(((0, 5),), (0,)), Phrase(((6, 10),), ()))),
        replace(CAT, id="4", is_referred=(False,)),
    ]
    found = _check(folder, records)
    assert {name: (finding.count, finding.kind.severity) for name, finding in found.items()} == {
        "boxes-without-words": (1, "warning"),
        "texts-without-boxes": (1, "warning"),
        "phrases-without-boxes": (1, "warning"),
        "nothing-referred": (1, "warning"),
    }
    assert found["boxes-without-words"].examples[0].what == "box (1, 2, 30, 40) of 'a cat here'"
    assert found["phrases-without-boxes"].examples[0].what == "'here' in 'a cat here'"
    assert [finding.examples[0].record for finding in found.values()] == ["1", "3", "2", "4"]


def test_boxes_in_fractions_are_found_and_not_called_small(folder: Path) -> None:
    found = _check(folder, [replace(CAT, boxes=((0.1, 0.2, 0.5, 0.6),))])
    finding = found.pop("fractions")
    assert not found
    assert finding.kind.severity == "error"
    assert finding.examples[0].what == "box (0.1, 0.2, 0.5, 0.6) in an image of 640 x 480 pixels"


def test_boxes_of_smaller_images_are_found_by_where_they_all_lie(folder: Path) -> None:
    half = [replace(CAT, id=str(n), boxes=((n, n, 320, 240 - n),)) for n in range(30)]
    found = _check(folder, half)
    finding = found["boxes-in-a-corner"]
    assert finding.count == 30
    assert finding.examples[0].what == "all 30 lie within 50% of the width and 50% of the height"
    assert _check(folder, [*half, replace(CAT, id="far", boxes=((300, 9, 600, 99),))]) == {}
    assert _check(folder, half[:29]) == {}


def test_very_small_boxes_are_a_note(folder: Path) -> None:
    boxes = ((9, 7, 10.5, 60), (9, 7, 14, 13), (9, 7, 15, 13))  # 0.01 % of the image are 30.72 pixels
    found = _check(folder, [replace(CAT, boxes=boxes, spans=(((0, 5),),) * 3)])
    assert (found["small-boxes"].count, found["small-boxes"].kind.severity) == (2, "note")
    assert found["small-boxes"].examples[0].what.startswith("box (9, 7, 10.5, 60), 1.5 x 53 pixels in")


def test_texts_are_counted_in_tokens_and_boxes_against_queries(folder: Path) -> None:
    # "dog" and "dogs" are one token each, and two more mark the beginning and the end.
    records = [
        replace(CAT, text="dog" + " dogs" * 254, spans=(((0, 3),),)),
        replace(CAT, id="2", text="dog" + " dogs" * 253, spans=(((0, 3),),)),
        replace(CAT, id="3", boxes=CAT.boxes * 4, spans=CAT.spans * 4),
        replace(CAT, id="4", boxes=CAT.boxes * 3, spans=CAT.spans * 3),
    ]
    found = _check(folder, records, num_queries=3)
    assert (found["long-texts"].count, found["long-texts"].kind.severity) == (1, "error")
    assert found["long-texts"].kind.title == "texts of more than 256 tokens"
    assert found["long-texts"].examples[0].what.startswith("257 tokens in 'dog dogs")
    assert (found["many-boxes"].count, found["many-boxes"].kind.severity) == (1, "warning")
    assert found["many-boxes"].examples[0].what == "4 boxes for 'a cat here'"
    assert len(found) == 2
    assert _check(folder, records[2:]) == {}


def test_words_for_sides_are_counted_by_language_with_what_mirroring_does(folder: Path) -> None:
    texts = [
        "the left cup",
        "the right cup",
        "der linke Becher",
        "den venstre koppen",
        "the cup",
        "right angle",
    ]
    records = [replace(CAT, id=str(n), text=text, spans=((),), answer="x") for n, text in enumerate(texts)]
    found = _check(folder, records)
    sides, fixed = found["sides"], found["fixed-sides"]
    assert (sides.count, sides.kind.severity) == (3, "note")
    assert sides.kind.title == "texts that name a side, such as left or right (en 2, de 1)"
    assert "set `flip_languages: [en, de]` to swap these words" in sides.kind.advice
    assert [example.what for example in sides.examples] == [
        *("'the left cup' (en)", "'the right cup' (en)"),
        "'der linke Becher' (de)",
    ]
    assert (fixed.count, fixed.examples[0].what) == (1, "'den venstre koppen'")
    assert len(found) == 2


def test_missing_images_are_found_and_damaged_ones_when_they_are_read(folder: Path) -> None:
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:60])
    records = [
        replace(CAT, id="2", image="none.png"),
        replace(CAT, id="3", image="broken.png"),
        replace(CAT, id="4", image="b.png", width=320, height=240),
    ]
    finding = _check(folder, records)["images"]
    assert (finding.count, finding.kind.severity) == (1, "error")
    assert finding.examples[0].what == f"there is no file {folder / 'store' / '..' / 'none.png'}"
    finding = _check(folder, records, read_images=True)["images"]
    assert [example.record for example in finding.examples] == ["2", "3", "4"]
    assert "640 x 480 pixels is recorded as 320 x 240" in finding.examples[2].what


def test_repeated_rows_are_found(folder: Path) -> None:
    records = [CAT, replace(CAT, id="2"), replace(CAT, id="3"), replace(CAT, id="4", text="a cat there")]
    found = _check(folder, records)
    finding = found.pop("repeated-rows")
    assert not found
    assert (finding.count, finding.kind.severity) == (2, "warning")
    assert [(example.record, example.what) for example in finding.examples] == [
        ("2", f"is the same as record 1 of {folder / 'store'}")
    ]


def test_images_of_several_stores_and_splits_are_found(folder: Path) -> None:
    train = write_store(folder / "train", [CAT, replace(CAT, id="2", image="b.png")], folder)
    other = write_store(folder / "other", [replace(CAT, text="a cat")], folder)
    val = write_store(folder / "val", [replace(CAT, split="val", image="c.png", text="a cat on c")], folder)
    test = write_store(folder / "test", [replace(CAT, split="test", text="the cat")], folder)

    def found(*stores: Any, read_images: bool = False) -> dict[str, Finding]:
        data = [CheckedData(store.path) for store in stores]
        return _by_name(check_data(data, CheckOptions(read_images=read_images)))

    assert found(train, val) == {}
    assert list(found(train, other)) == ["shared-images"]
    assert found(train, other)["shared-images"].kind.severity == "warning"
    leaked = found(train, test)["leaked-images"]
    assert (leaked.count, leaked.kind.severity) == (1, "error")
    assert leaked.examples[0].what == f"shows the image of record 1 of {train.path}, split train"
    assert leaked.examples[0].where == f"{test.path}, split test"
    assert list(found(train, val, read_images=True)) == ["leaked-images"]  # b.png is c.png


def test_embedded_images_are_compared_by_their_bytes(folder: Path) -> None:
    red = (folder / "b.png").read_bytes()
    records = [replace(CAT, image=red), replace(CAT, id="2", split="val", image=red, text="a cat there")]
    assert list(_check(folder, records, read_images=True)) == ["leaked-images"]


LINE = {"image": "a.png", "text": "a cat", "boxes": [[9, 7, 80, 60]], "phrases": ["cat"]}


@pytest.mark.parametrize(
    ("change", "name", "expected"),
    [
        ({"boxes": [[9, 7, 800, 60]]}, "boxes-outside", "leaves the image of 640 x 480 pixels"),
        ({"boxes": [[90, 7, 80, 60]]}, "boxes-outside", "is empty"),
        ({"text": " ", "phrases": None}, "empty-texts", "its text is empty"),
        ({"phrases": [[[0, 9]]]}, "spans-outside", "span (0, 9) is outside its text of 7 characters"),
        ({"phrases": ["dog"]}, "unreadable", "the phrase 'dog' is not in the text 'the cat'"),
        ({"image": "z.png"}, "images", "z.png is missing or not an image"),
        ({"boxes": [[0.1, 0.1, 0.2, 0.9]]}, "fractions", "box (0.1, 0.1, 0.2, 0.9)"),
    ],
)
def test_lines_that_an_import_would_refuse_are_found_by_kind(
    folder: Path, change: dict[str, Any], name: str, expected: str
) -> None:
    lines = [LINE, LINE | {"text": "the cat"} | change]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    report = check_data([CheckedData(folder / "mine.jsonl")])
    (finding,) = report.findings
    assert (finding.kind.name, finding.kind.severity, finding.count) == (name, "error", 1)
    assert expected in finding.examples[0].what
    assert report.has_errors
    assert json.loads(json.dumps(report.to_dict()))["findings"][0]["count"] == 1


def test_lines_may_have_their_images_elsewhere_and_splits_are_named_by_their_files(folder: Path) -> None:
    for name in ("train", "val"):
        (folder / "lists").mkdir(exist_ok=True)
        (folder / "lists" / f"{name}.jsonl").write_text(json.dumps(LINE | {"text": f"a cat of {name}"}))
    data = [CheckedData(folder / "lists" / f"{name}.jsonl", folder) for name in ("train", "val")]
    assert list(_by_name(check_data(data))) == ["leaked-images"]


def test_bad_rows_of_a_store_do_not_hide_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:  # as a program without these checks may have written it
        patch.setattr("mdetr.data.store.validate_record", lambda record: None)
        bad = replace(CAT, id="2", boxes=((9, 7, 800, 60),))
        store = write_store(folder / "store", [bad, CAT], folder)
    report = check_data([CheckedData(store.path)])
    assert report.records == 1
    assert [finding.kind.name for finding in report.findings] == ["boxes-outside"]


def test_what_is_no_data_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"There is no store at .*none"):
        check_data([CheckedData(folder / "none")])
    with pytest.raises(InvalidInputError, match=r"a\.png is neither a \.jsonl file nor a store; import it"):
        CheckedData(folder / "a.png")
    with pytest.raises(InvalidInputError, match="is not a store"):
        check_data([CheckedData(folder)])
    (folder / "empty.jsonl").write_text("\n")
    with pytest.raises(InvalidInputError, match=r"empty\.jsonl holds no records"):
        check_data([CheckedData(folder / "empty.jsonl")])
