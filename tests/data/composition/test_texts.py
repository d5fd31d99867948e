"""Composed texts: whatever the seed, what they say is true of the boxes, and what is absent has none."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Generator

from mdetr.data.augmentation.transforms import Compose, HorizontalFlip
from mdetr.data.class_names import KIND_NAMES, KINDS, class_name
from mdetr.data.colors import COLORS
from mdetr.data.composition.mentions import NUMBERS, distinguishing_words, relation
from mdetr.data.composition.scene import Scene, Thing, scene_of
from mdetr.data.composition.texts import ComposeTexts, compose
from mdetr.data.record import Record, validate_record
from mdetr.processing.coordinates import Box
from tests.photos import painted

WIDTH, HEIGHT = 240, 160
SEEDS = 400
# Box -> class and, where it is plain to see, color.
TRUTH: dict[Box, tuple[str, str | None]] = {
    (10.0, 70.0, 70.0, 150.0): ("dog", "black"),
    (190.0, 100.0, 230.0, 140.0): ("dog", "white"),
    (100.0, 10.0, 160.0, 50.0): ("car", "red"),
    (84.0, 110.0, 116.0, 150.0): ("cup", "blue"),
    (125.0, 60.0, 145.0, 150.0): ("person", None),
    (126.0, 100.0, 144.0, 149.0): ("jeans", "blue"),
    (200.0, 5.0, 236.0, 60.0): ("sheep", None),
}
ABSENT = ("cat", "umbrella", "boots", "airplane")


def _names(name: str) -> tuple[str, ...]:
    words = class_name(name)
    return (*words.singular, *words.plural)


def _record(truth: dict[Box, tuple[str, str | None]]) -> Record:
    names = list(dict.fromkeys(name for name, _ in truth.values()))
    text = ". ".join(names) + "."
    spans = tuple(((text.index(name), text.index(name) + len(name)),) for name, _ in truth.values())
    extra = json.dumps({"absent": ABSENT})
    return Record("tests", "train", "1", "a.png", "a", WIDTH, HEIGHT, text, tuple(truth), spans, extra=extra)


RECORD = _record(TRUTH)
# Boxes are painted in the order of their size, so that jeans are seen on the person.
IMAGE = painted(
    WIDTH,
    HEIGHT,
    [
        (color or "green", (round(x0), round(y0), round(x1), round(y1)))
        for (x0, y0, x1, y1), (_, color) in TRUTH.items()
    ],
)


def _mirrored(box: Box) -> Box:
    return WIDTH - box[2], box[1], WIDTH - box[0], box[3]


def _composed(seeds: int, flip: bool = False) -> list[Record]:
    steps = Compose((HorizontalFlip(1.0, ("en",)), ComposeTexts(4))) if flip else ComposeTexts(4)
    return [
        record
        for seed in range(seeds)
        for record in steps(IMAGE, (RECORD,), Generator().manual_seed(seed))[1]
    ]


def _center(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _has(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def _mentions(record: Record) -> dict[str, list[Box]]:
    """Words of a span -> the boxes that they belong to."""
    found: dict[tuple[int, int], list[Box]] = defaultdict(list)
    for box, spans in zip(record.boxes, record.spans, strict=True):
        for span in spans:
            found[span].append(box)
    return {record.text[start:end]: boxes for (start, end), boxes in sorted(found.items())}


@pytest.fixture(scope="module", params=[False, True], ids=["as it is", "mirrored"])
def composed(request: pytest.FixtureRequest) -> tuple[dict[Box, tuple[str, str | None]], list[Record]]:
    """What is true of the boxes, and texts of many seeds about them."""
    truth = {_mirrored(box) if request.param else box: what for box, what in TRUTH.items()}
    return truth, _composed(SEEDS, request.param)


def test_composed_records_are_valid_and_their_words_are_names_of_their_boxes(composed) -> None:
    truth, records = composed
    seen = set()
    for record in records:
        validate_record(record)
        assert len({record.id for record in records[:4]}) == 4
        assert record.extra is None
        for words, boxes in _mentions(record).items():
            for box in boxes:
                name = truth[box][0]
                kinds = [kind for kind, members in KINDS.items() if name in members]
                known = [*_names(name), *(word for kind in kinds for word in _names(kind))]
                assert any(_has(words, word) for word in known), (record.text, words, name)
                seen.add(name)
    assert seen == {name for name, _ in TRUTH.values()}


def test_a_name_without_more_means_all_things_of_the_class_or_kind(composed) -> None:
    truth, records = composed
    determiner = rf"(?:an?|the|all|all the|some|a pair of|(?:the )?(?:{'|'.join(NUMBERS)}))"
    checked = 0
    for record in records:
        if re.search(r"\b(left|right|above|below|under)\b", record.text):
            continue  # relations say more than the span has
        for words, boxes in _mentions(record).items():
            bare = re.sub(rf"^{determiner} ", "", words)
            members = {name for name, _ in TRUTH.values() if bare in _names(name)}
            for kind in KIND_NAMES:
                members |= KINDS[kind] if bare in _names(kind) else set()
            if members:
                expected = {box for box, (name, _) in truth.items() if name in members}
                assert set(boxes) == expected, record.text
                checked += 1
    assert checked > SEEDS


def test_numbers_colors_and_places_are_true_of_the_boxes(composed) -> None:
    truth, records = composed
    counts, colors, where = 0, set(), set()
    for record in records:
        for words, boxes in _mentions(record).items():
            for number, word in enumerate(NUMBERS, start=1):
                if _has(words, word):
                    assert len(boxes) == number, record.text
                    counts += 1
            for color in COLORS:
                if _has(words, color):
                    assert {truth[box][1] for box in boxes} == {color}, record.text
                    colors.add(color)
            for word in ("left", "right", "leftmost", "rightmost", "top", "bottom", "middle", "center"):
                if _has(words, word):
                    _check_place(truth, boxes, word, record.text)
                    where.add(word)
            for word in ("largest", "biggest", "bigger", "larger", "smallest", "smaller"):
                if _has(words, word):
                    (box,) = boxes
                    areas = sorted(_area(other) for other in truth if truth[other][0] == truth[box][0])
                    assert _area(box) == (areas[0] if word.startswith("small") else areas[-1]), record.text
                    where.add(word)
    assert counts > 5
    assert colors == {"black", "white", "red", "blue"}
    assert {"left", "right", "leftmost", "rightmost", "bigger", "smallest"} <= where


def _check_place(truth, boxes, word: str, text: str) -> None:
    (box,) = boxes
    name = truth[box][0]
    others = [_center(other) for other in truth if other != box and truth[other][0] == name]
    x, y = _center(box)
    if word.startswith("left"):
        assert all(x < other for other, _ in others) if others else x < WIDTH / 2, text
    elif word.startswith("right"):
        assert all(x > other for other, _ in others) if others else x > WIDTH / 2, text
    else:
        assert others, text
        assert word not in ("top", "bottom") or (all(y < other for _, other in others) == (word == "top")), (
            text
        )


def test_relations_are_true_of_both_boxes_and_of_no_other_thing_of_the_class(composed) -> None:
    _, records = composed
    holds = {
        "left of": lambda a, b: _center(a)[0] < _center(b)[0],
        "right of": lambda a, b: _center(a)[0] > _center(b)[0],
        "above": lambda a, b: _center(a)[1] < _center(b)[1],
        "below": lambda a, b: _center(a)[1] > _center(b)[1],
        "under": lambda a, b: _center(a)[1] > _center(b)[1],
    }
    seen = set()
    for record in records:
        for word, is_true in holds.items():
            if not _has(record.text, word):
                continue
            place = re.search(rf"\b{word}\b", record.text).start()
            assert len(record.boxes) == 2, record.text
            root, anchor = sorted(range(2), key=lambda index: record.spans[index])
            assert record.spans[root][0][1] < place < record.spans[anchor][0][0]
            assert is_true(record.boxes[root], record.boxes[anchor]), record.text
            assert [record.is_referred[index] for index in (root, anchor)] == [True, False]
            seen.add(word)
    assert len(seen) >= 4


def test_what_is_absent_never_has_a_box_and_is_in_many_texts(composed) -> None:
    truth, records = composed
    present = {name for name, _ in TRUTH.values()}
    absent = wrong = nothing = 0
    for record in records:
        rest = record.text
        for start, end in sorted({span for spans in record.spans for span in spans}, reverse=True):
            words = record.text[start:end]
            assert not any(_has(words, word) for name in ABSENT for word in _names(name)), record.text
            rest = rest[:start] + "#" + rest[end:]
        absent += any(_has(rest, word) for name in ABSENT for word in _names(name))
        for name in present:
            for word in _names(name):
                if _has(rest, word):  # without a box: only in a color that no such thing has
                    match = re.search(rf"({'|'.join(COLORS)}) {re.escape(word)}\b", rest)
                    assert match is not None, record.text
                    assert match[1] not in {color for one, color in truth.values() if one == name}
                    wrong += 1
        nothing += not record.boxes
    assert absent > SEEDS / 2
    assert wrong > SEEDS / 20
    assert nothing > SEEDS / 10


def _cat_photo() -> tuple[Record, Scene]:
    """A photo of a cat, where five other animals and twenty things of other kinds are surely absent."""
    others = (
        *("airplane", "apple", "banana", "boat", "bus", "cake", "dress", "frisbee", "jeans", "keyboard"),
        *("kite", "laptop", "microwave", "oven", "pizza", "skirt", "spoon", "surfboard", "toilet", "train"),
    )
    absent = ("cow", "dog", "horse", "raccoon", "sheep", *others)
    record = replace(RECORD, text="cat.", boxes=((20.0, 20.0, 90.0, 140.0),), spans=(((0, 3),),))
    things = (Thing("cat", (20.0, 20.0, 90.0, 140.0), "black"),)
    return record, Scene(things, absent, WIDTH, HEIGHT)


def _absent_in(text: str, absent: tuple[str, ...]) -> set[str]:
    return {name for name in absent if any(_has(text, word) for word in _names(name))}


def test_half_of_the_absent_names_are_like_something_in_the_photo() -> None:
    """Drawn alike from all absent names, one in five would be another animal."""
    record, scene = _cat_photo()
    animals = set(scene.absent[:5])
    texts = [compose(record, scene, Random(seed), 0).text for seed in range(2000)]
    names = [name for text in texts for name in _absent_in(text, scene.absent)]
    share = sum(name in animals for name in names) / len(names)
    assert 0.5 < share < 0.75
    assert {name for name in names if name in animals} == animals  # each of them, not always the same
    assert len(set(names)) == len(scene.absent)  # and all the rest
    assert max(names.count(name) for name in animals) < 1.5 * min(names.count(name) for name in animals)


def test_a_thing_is_often_named_together_with_an_absent_one_like_it() -> None:
    record, scene = _cat_photo()
    animals = scene.absent[:5]
    composed = [compose(record, scene, Random(seed), 0) for seed in range(2000)]
    both = [made for made in composed if made.boxes and _absent_in(made.text, animals)]
    alone = [made for made in composed if not made.boxes and _absent_in(made.text, animals)]
    assert len(both) > 0.2 * len(composed)
    assert len(alone) > 0.03 * len(composed)
    for made in both:
        (spans,) = made.spans
        assert made.boxes == (scene.things[0].box,)
        assert not any(_absent_in(made.text[start:end], animals) for start, end in spans), made.text


def test_a_pair_sets_a_thing_beside_an_absent_one_like_it() -> None:
    """In a photo of a cat and a car "a cat with a dog" or "a car near a bus" more than "a cat with a bus"."""
    cat, car = Thing("cat", (20.0, 20.0, 90.0, 140.0)), Thing("car", (120.0, 60.0, 220.0, 140.0))
    scene = Scene((cat, car), ("bus", "dog", "horse", "pizza", "truck"), WIDTH, HEIGHT)
    record = replace(RECORD, text="cat. car.", boxes=(cat.box, car.box), spans=(((0, 3),), ((5, 8),)))
    texts = [compose(record, scene, Random(seed), 0).text for seed in range(8000)]
    halves = [found for text in texts if (found := re.fullmatch(r"(.+) (?:with|next to|near) (.+)", text))]
    likes = Counter[bool]()
    for first, second in (found.groups() for found in halves):
        for name in _absent_in(second, scene.absent):
            kind = "animal" if _absent_in(first, ("cat", "animal")) else "vehicle"
            likes[name in KINDS[kind]] += 1
    assert sum(likes.values()) > 60
    assert likes[True] > 2 * likes[False]  # were both drawn alike, it would be less than half


def test_where_nothing_alike_is_surely_absent_other_names_are_drawn() -> None:
    record, scene = _cat_photo()
    scene = replace(scene, absent=("pizza", "train"))
    texts = [compose(record, scene, Random(seed), 0).text for seed in range(300)]
    assert set().union(*(_absent_in(text, scene.absent) for text in texts)) == {"pizza", "train"}
    assert not any(_has(text, word) for text in texts for word in ("dog", "cow", "bird"))


def test_the_same_seed_gives_the_same_texts_and_other_seeds_give_others() -> None:
    first, again = _composed(5), _composed(5)
    assert first == again
    assert len({record.text for record in first}) > 15


def test_colors_are_measured_on_the_pixels() -> None:
    assert [(thing.name, thing.color) for thing in scene_of(RECORD, IMAGE).things] == list(TRUTH.values())
    other = {(10.0, 70.0, 70.0, 150.0): ("dog", None)}
    painted_blue = painted(WIDTH, HEIGHT, [("blue", (10, 70, 70, 150))])
    (dog,) = scene_of(_record(other), painted_blue).things
    assert dog.color is None  # no dog is blue: the light was


def test_captions_stay_and_leave_room_for_composed_texts() -> None:
    captions = tuple(
        replace(RECORD, id=f"caption-{number}", text=f"caption {number}", boxes=(), spans=(), extra=None)
        for number in range(5)
    )
    for seed in range(10):
        _, records = ComposeTexts(4)(IMAGE, (RECORD, *captions), Generator().manual_seed(seed))
        kept = [record for record in records if record.id.startswith("caption")]
        assert len(records) == 4
        assert len(kept) == 2
        assert set(kept) <= set(captions)
    image, records = ComposeTexts(4)(IMAGE, captions, Generator().manual_seed(0))
    assert records == captions
    assert image is IMAGE


@pytest.mark.parametrize("extra", ['{"original_id": 3}', "[1, 2]", "7", None])
def test_records_that_do_not_say_what_is_absent_stay(extra: str | None) -> None:
    record = replace(RECORD, extra=extra)
    assert ComposeTexts(4)(IMAGE, (record,), Generator())[1] == (record,)


def test_images_without_pixels_only_pass() -> None:
    """As where only the shape of an example is asked for; its outlines have no words."""
    image = torch.empty(3, HEIGHT, WIDTH, device="meta")
    assert ComposeTexts(4)(image, (RECORD,), Generator()) == (image, (RECORD,))


def test_an_image_of_which_nothing_is_known_still_gives_a_text() -> None:
    empty = replace(RECORD, boxes=(), spans=(), extra=json.dumps({"absent": []}))
    for seed in range(20):
        for record in ComposeTexts(2)(IMAGE, (empty,), Generator().manual_seed(seed))[1]:
            validate_record(record)
            assert record.boxes == ()


def _scene(*boxes: Box) -> Scene:
    return Scene(tuple(Thing("dog", box) for box in boxes), (), 100, 100)


def test_places_tell_one_thing_from_the_others_of_its_class() -> None:
    row = _scene((0, 40, 20, 60), (40, 40, 60, 60), (75, 35, 100, 65))
    assert [distinguishing_words(row, (0, 1, 2), index) for index in range(3)] == [
        ["left"],
        ["middle"],
        ["right", "largest", "biggest"],
    ]
    pair = _scene((40, 0, 60, 20), (42, 70, 52, 80))
    assert distinguishing_words(pair, (0, 1), 0) == ["top", "bigger", "larger", "biggest"]
    assert distinguishing_words(pair, (0, 1), 1) == ["bottom", "smaller", "smallest"]
    assert distinguishing_words(_scene((5, 40, 25, 60)), (0,), 0) == [
        "left"
    ]  # alone, it is left of the middle
    assert distinguishing_words(_scene((40, 40, 60, 60)), (0,), 0) == []
    assert distinguishing_words(_scene((40, 40, 60, 60), (42, 41, 62, 61)), (0, 1), 0) == []


def test_a_relation_names_the_one_thing_of_its_class_of_which_it_is_true() -> None:
    things = (Thing("dog", (0, 40, 20, 60)), Thing("dog", (80, 40, 100, 60)), Thing("cup", (45, 45, 55, 55)))
    scene = Scene(things, (), 100, 100)
    found = [mention for seed in range(60) if (mention := relation(scene, Random(seed))) is not None]
    left = [mention for mention in found if "left" in mention.text]
    right = [mention for mention in found if "right" in mention.text]
    assert {mention.things for mention in left} == {(0,)}
    assert {mention.things for mention in right} == {(1,)}
    assert len(left) + len(right) == len(found) > 30
    assert all(mention.others[0][1] == (2,) for mention in found)


def test_compose_numbers_its_records() -> None:
    scene = scene_of(RECORD, IMAGE)
    assert [compose(RECORD, scene, Random(1), number).id for number in (0, 3)] == ["1-0", "1-3"]


def test_the_examples_of_the_documents_are_composed_texts() -> None:
    document = (Path(__file__).parents[3] / "docs" / "photo-tiny.md").read_text(encoding="utf-8")
    line = json.loads(re.search(r"```json\n(.+)\n```", document)[1])
    colors = ("black", "white", "red", "blue")
    boxes = [tuple(map(float, box)) for box in line["boxes"]]
    things = [
        Thing(label, box, color) for label, box, color in zip(line["labels"], boxes, colors, strict=True)
    ]
    scene = Scene(tuple(things), ("airplane", "cat", "umbrella"), line["width"], line["height"])
    composed = {}
    for seed in range(140):
        record = compose(RECORD, scene, Random(seed), 0)
        composed[record.text] = {
            words: {boxes.index(box) + 1 for box in found} for words, found in _mentions(record).items()
        }
    examples = re.findall(r"^\| `(.+?)` \| (.*)\|$", document, flags=re.MULTILINE)
    examples = [(text, words) for text, words in examples if text not in line and text in composed]
    assert len(examples) == document.split("| text | words and their boxes |")[1].count("\n| `")
    assert len(examples) > 8
    for text, words in examples:
        parts = re.findall(r"`(.+?)`((?: \d)+)", words)
        assert composed[text] == {part: set(map(int, numbers.split())) for part, numbers in parts}, text
