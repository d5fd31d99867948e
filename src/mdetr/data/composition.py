"""Texts composed from the named boxes of an image: names, colors, positions, counts, absent objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Generator, Tensor

from mdetr.data.class_names import GARMENTS, KINDS, UNCOUNTABLE, class_name, similar_groups
from mdetr.data.colors import COLORS, SIMILAR_COLORS, color_of
from mdetr.data.examples import Records
from mdetr.data.protocol_fields import protocol_fields
from mdetr.data.record import Record
from mdetr.processing.coordinates import Box, Span

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
COLORED = (GARMENTS - {"hair", "accessories", "bracelet", "necklace", "watch", "ring", "belt"}) | {
    *("car", "truck", "bus", "train", "motorcycle", "boat", "dog", "cat", "horse", "cow", "bird", "couch"),
    *("chair", "umbrella", "cup", "vase", "backpack", "handbag", "suitcase", "apple", "bed", "sports ball"),
}
FUR = frozenset(("black", "white", "gray", "brown"))
FURRY = frozenset(("dog", "cat", "horse", "cow"))
CALLS = (
    *("find {}", "where is {}?", "show me {}", "look for {}", "point at {}", "I am looking for {}"),
    "detect {}",
)
SCENES = ("a photo of {}", "there is {}", "{} in the picture", "a picture of {}", "{} here", "I can see {}")
PAIRS = ("{} and {}", "{} with {}", "{} next to {}", "{} near {}", "{}, {}", "{} together with {}")
WRONG_COLORS = 0.3  # the share of absent things that are there, but in another color
SIMILAR_SHARE = 0.6  # of the other absent things: how many are like one that is there, where some are known
ABSENT_IN_PAIRS = 0.35  # the share of pairs of which the second is absent
LEFT, RIGHT = ("to the left of", "left of"), ("to the right of", "right of")
ABOVE, BELOW = ("above",), ("below", "under")


@dataclass(frozen=True)
class Thing:
    """One thing in an image.

    Attributes:
        name: Its class.
        box: x0, y0, x1, y1 in pixels.
        color: Of `COLORS`; None where it has none that is plain to see.
    """

    name: str
    box: Box
    color: str | None = None

    @property
    def center(self) -> tuple[float, float]:
        """x, y in pixels."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    @property
    def area(self) -> float:
        """In square pixels."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)


@dataclass(frozen=True)
class Mention:
    """Words that denote some things of an image, or none that is there.

    Attributes:
        text: The words.
        things: Indices of the things.
        root: The part of the words that the boxes belong to, as characters of `text`.
        others: More things that the words mention, each with its part of the words.
    """

    text: str
    things: tuple[int, ...]
    root: Span | None = None
    others: tuple[tuple[Span, tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class Scene:
    """All that is known of an image.

    Attributes:
        things: Those that have a box.
        absent: Names of what is not in it.
        width: Of the image, in pixels.
        height: Of the image, in pixels.
    """

    things: tuple[Thing, ...]
    absent: tuple[str, ...]
    width: int
    height: int

    def by_name(self) -> dict[str, tuple[int, ...]]:
        """Class name -> indices of its things."""
        found: dict[str, tuple[int, ...]] = {}
        for index, thing in enumerate(self.things):
            found[thing.name] = (*found.get(thing.name, ()), index)
        return found


@dataclass(frozen=True)
class ComposeTexts:
    """Replaces each record of class names by texts about the same boxes, composed at random.

    A record of class names is one that lists in its extra fields what is absent ("absent": [...]); its
    boxes' words are their class names. Other records, such as captions, stay as they are. It follows what
    moves the boxes, since it mentions left and right, and measures colors on the pixels.

    Attributes:
        texts: How many texts an image gets.
    """

    texts: int = 4

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Keep the image; compose the texts."""
        named = [record for record in records if protocol_fields(record).absent is not None]
        if not named or image.device.type == "meta":  # only the shape is asked for
            return image, records
        rng = Random(int(torch.randint(2**31, (), generator=generator)))
        captions = [record for record in records if protocol_fields(record).absent is None]
        captions = rng.sample(captions, min(len(captions), self.texts // 2))
        scene = scene_of(named[0], image)
        composed = [compose(named[0], scene, rng, number) for number in range(self.texts - len(captions))]
        return image, (*captions, *composed)


def scene_of(record: Record, image: Tensor) -> Scene:
    """What a record of class names says of its image (3, H, W), with the colors measured."""
    things = []
    for box, spans in zip(record.boxes, record.spans, strict=True):
        name = record.text[spans[0][0] : spans[0][1]]
        color = color_of(image, box) if name in COLORED else None
        if name in FURRY and color not in FUR:
            color = None
        things.append(Thing(name, box, color))
    return Scene(tuple(things), protocol_fields(record).absent or (), record.width, record.height)


def compose(record: Record, scene: Scene, rng: Random, number: int) -> Record:
    """One text about a scene, as a record."""
    form = rng.choices((_list, _single, _pair, _relation, _nothing), weights=(35, 30, 12, 11, 12))[0]
    text, mentions, is_single = form(scene, rng) or _list(scene, rng)
    return to_record(record, scene, text, mentions, is_single, number)


def to_record(
    record: Record,
    scene: Scene,
    text: str,
    mentions: Sequence[tuple[int, Mention]],
    is_single: bool,
    number: int,
) -> Record:
    """A record of a text and, for each of its mentions, where in the text it begins."""
    spans: dict[int, list[Span]] = {}
    referred: set[int] = set()
    for start, mention in mentions:
        root = mention.root or (0, len(mention.text))
        for part, things in ((root, mention.things), *mention.others):
            for thing in things:
                spans.setdefault(thing, []).append((start + part[0], start + part[1]))
        referred.update(mention.things)
    kept = sorted(spans)
    return replace(
        record,
        id=f"{record.id}-{number}",
        text=text,
        boxes=tuple(scene.things[index].box for index in kept),
        spans=tuple(tuple(sorted(set(spans[index]))) for index in kept),
        is_referred=tuple(index in referred for index in kept) if is_single else None,
        phrases=None,
        category_ids=None,
        masks=None,
        extra=None,
    )


Composed = tuple[str, list[tuple[int, Mention]], bool]


def _single(scene: Scene, rng: Random) -> Composed | None:
    mention = _mention(scene, rng)
    if mention is None:
        return None
    template = rng.choice(("{}", "{}", "{}", "{}", *CALLS, *SCENES))
    return _filled(template, [mention], rng)


def _pair(scene: Scene, rng: Random) -> Composed | None:
    first, second = _mention(scene, rng), _mention(scene, rng)
    if first is None or second is None or set(first.things) & set(second.things):
        return None
    if rng.random() < ABSENT_IN_PAIRS:
        second = _absentee(scene, rng, like=scene.things[first.things[0]].name) or second
    text, mentions, _ = _filled(rng.choice(PAIRS), [first, second], rng)
    return text, mentions, False


def _relation(scene: Scene, rng: Random) -> Composed | None:
    mention = relation(scene, rng)
    return None if mention is None else _filled(rng.choice(("{}", "{}", *CALLS)), [mention], rng)


def _nothing(scene: Scene, rng: Random) -> Composed | None:
    mention = _absentee(scene, rng)
    return (
        None if mention is None else _filled(rng.choice(("{}", "{}", "{}", *CALLS, *SCENES)), [mention], rng)
    )


def _list(scene: Scene, rng: Random) -> Composed:
    """Several mentions, of which some are absent, one after the other."""
    names = list(scene.by_name())
    rng.shuffle(names)
    count = rng.choice((1, 2, 3, 4, 5, 8))
    mentions = [m for name in names[:count] if (m := _mention(scene, rng, name)) is not None]
    for _ in range(rng.choice((0, 1, 1, 2, 3)) if mentions else 1):
        absentee = _absentee(scene, rng)
        if absentee is not None and all(absentee.text != mention.text for mention in mentions):
            mentions.append(absentee)
    if not mentions:
        mentions = [Mention("nothing", ())]
    rng.shuffle(mentions)
    separator = rng.choice((". ", ". ", ", ", " and ", "; "))
    text, placed = "", []
    for index, mention in enumerate(mentions):
        text += separator if index else ""
        placed.append((len(text), mention))
        text += mention.text
    return text + rng.choice(("", ".")), placed, False


def _filled(template: str, mentions: Sequence[Mention], rng: Random) -> Composed:
    """Put mentions into the gaps of a template."""
    pieces = template.split("{}")
    text, placed = pieces[0], []
    for mention, piece in zip(mentions, pieces[1:], strict=True):
        placed.append((len(text), mention))
        text += mention.text + piece
    if text[-1].isalnum():
        text += rng.choice(("", "", "."))
    return text, placed, True


def _mention(scene: Scene, rng: Random, name: str | None = None) -> Mention | None:
    """Words for some things of the scene: by class, kind, color, or place."""
    groups = scene.by_name()
    if not groups:
        return None
    name = name or rng.choice(list(groups))
    kinds: tuple[Callable[[Scene, Random, str], Mention | None], ...] = (
        by_class,
        by_color,
        by_place,
        by_kind,
    )
    maker = rng.choices(kinds, weights=(50, 25, 20, 5))[0]
    return maker(scene, rng, name) or by_class(scene, rng, name)


def by_class(scene: Scene, rng: Random, name: str) -> Mention:
    """All things of a class, by one of its names."""
    things = scene.by_name()[name]
    return Mention(_noun_phrase(rng, name, len(things)), things)


def by_kind(scene: Scene, rng: Random, name: str) -> Mention | None:
    """All things of the kind that a class belongs to, such as all animals."""
    kinds = [kind for kind, members in KINDS.items() if name in members]
    if not kinds:
        return None
    kind = rng.choice(kinds)
    things = tuple(i for i, thing in enumerate(scene.things) if thing.name in KINDS[kind])
    return Mention(_noun_phrase(rng, kind, len(things)), things)


def by_color(scene: Scene, rng: Random, name: str) -> Mention | None:
    """The things of a class that have one color, where the color of all of them is plain."""
    group = scene.by_name()[name]
    colors = {scene.things[i].color for i in group}
    if None in colors:
        return None
    color = rng.choice(sorted(color for color in colors if color is not None))
    if any(other in SIMILAR_COLORS[color] for other in colors if other is not None):
        return None
    things = tuple(i for i in group if scene.things[i].color == color)
    return Mention(_noun_phrase(rng, name, len(things), adjective=color), things)


def by_place(scene: Scene, rng: Random, name: str) -> Mention | None:
    """One thing of a class that stands out by where it is, or by its size."""
    group = scene.by_name()[name]
    words = [(place, i) for i in group for place in places(scene, group, i)]
    if not words:
        return None
    place, index = rng.choice(words)
    noun = _one(rng, name)
    if noun is None:
        return None
    if place in ("left", "right", "top", "bottom"):
        where = "in" if place in ("top", "bottom") else "on"
        behind = f"at the {place}" if where == "in" else f"on the {place}"
        text = rng.choice((f"the {noun} {behind}", f"the {place} {noun}", f"{noun} {behind}"))
        if place in ("left", "right"):
            text = rng.choice((text, f"the {place}most {noun}", f"the {noun} on the {place} side"))
    elif place == "middle":
        text = rng.choice((f"the {noun} in the middle", f"the middle {noun}", f"the {noun} in the center"))
    else:
        text = rng.choice((f"the {place} {noun}", f"{place} {noun}"))
    return Mention(text, (index,))


def places(scene: Scene, group: Sequence[int], index: int) -> list[str]:
    """What tells one thing from the others of its class: "left", "right", "top", "bottom", "largest" ..."""
    thing, others = scene.things[index], [scene.things[i] for i in group if i != index]
    x, y = thing.center[0] / scene.width, thing.center[1] / scene.height
    found = []
    if not others:
        if x < 0.35:
            found.append("left")
        elif x > 0.65:
            found.append("right")
        return found
    horizontal = [other.center[0] / scene.width for other in others]
    vertical = [other.center[1] / scene.height for other in others]
    gap = 0.1
    if all(x < value - gap for value in horizontal):
        found.append("left")
    if all(x > value + gap for value in horizontal):
        found.append("right")
    if all(y < value - gap for value in vertical):
        found.append("top")
    if all(y > value + gap for value in vertical):
        found.append("bottom")
    if len(others) == 2 and min(horizontal) + gap < x < max(horizontal) - gap:
        found.append("middle")
    if all(thing.area > 1.6 * other.area for other in others):
        found += ["largest", "biggest"] if len(others) > 1 else ["bigger", "larger", "biggest"]
    if all(thing.area * 1.6 < other.area for other in others):
        found += ["smallest"] if len(others) > 1 else ["smaller", "smallest"]
    return found


def relation(scene: Scene, rng: Random) -> Mention | None:
    """A thing told from the others of its class by where it is to another: "the dog left of the chair"."""
    groups = scene.by_name()
    anchors = [indices[0] for indices in groups.values() if len(indices) == 1]
    rng.shuffle(anchors)
    for anchor in anchors:
        other = scene.things[anchor]
        names = [name for name in groups if name != other.name]
        rng.shuffle(names)
        for name in names:
            for words, holds in (
                (LEFT, lambda a, b: a.center[0] < b.center[0] - 0.15 * scene.width),
                (RIGHT, lambda a, b: a.center[0] > b.center[0] + 0.15 * scene.width),
                (ABOVE, lambda a, b: a.box[3] < b.center[1] and _overlap(a, b) > 0),
                (BELOW, lambda a, b: a.box[1] > b.center[1] and _overlap(a, b) > 0),
            ):
                things = [i for i in groups[name] if holds(scene.things[i], other)]
                if len(things) != 1 or rng.random() < 0.4:
                    continue
                noun, anchor_noun = _one(rng, name), _one(rng, other.name)
                if noun is None or anchor_noun is None:
                    continue
                root, middle = f"the {noun}", f" {rng.choice(words)} "
                end = f"the {anchor_noun}"
                text = root + middle + end
                place = (len(text) - len(end), len(text))
                return Mention(text, (things[0],), (0, len(root)), ((place, (anchor,)),))
    return None


def _overlap(a: Thing, b: Thing) -> float:
    """How many pixels of width two things share."""
    return min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])


def _absentee(scene: Scene, rng: Random, like: str | None = None) -> Mention | None:
    """Words for what the image does not show: another class, or the wrong color of one that it shows.

    Args:
        scene: What is known of the image.
        rng: The source of randomness.
        like: The class that it is often similar to; any that the image shows if left out.
    """
    wrong = _wrong_color(scene, rng) if rng.random() < WRONG_COLORS else None
    if wrong is not None:
        return wrong
    if not scene.absent:
        return None
    similar = _similar_absent(scene, rng, like) if rng.random() < SIMILAR_SHARE else ()
    name = rng.choice(similar or scene.absent)
    adjective = rng.choice(COLORS) if name in COLORED and rng.random() < 0.15 else None
    return Mention(_noun_phrase(rng, name, rng.choice((1, 1, 1, 2)), adjective), ())


def _similar_absent(scene: Scene, rng: Random, like: str | None) -> tuple[str, ...]:
    """The absent names of one group with something that the image shows; none where no group has both."""
    names = [like] if like is not None else list(scene.by_name())
    rng.shuffle(names)
    for name in names:
        # One group at random, not all at once: else the many wild animals would crowd out dogs and cats.
        groups = list(similar_groups(name))
        rng.shuffle(groups)
        for group in groups:
            found = tuple(absent for absent in scene.absent if absent in group)
            if found:
                return found
    return ()


def _wrong_color(scene: Scene, rng: Random) -> Mention | None:
    groups = scene.by_name()
    names = [name for name, group in groups.items() if all(scene.things[i].color for i in group)]
    if not names:
        return None
    name = rng.choice(names)
    there = {scene.things[i].color for i in groups[name]}
    near = there.union(*(SIMILAR_COLORS[color] for color in there if color))
    palette = sorted(FUR) if name in FURRY else COLORS
    others = [color for color in palette if color not in near]
    return Mention(_noun_phrase(rng, name, 1, rng.choice(others)), ()) if others else None


def _one(rng: Random, name: str) -> str | None:
    """A name for one thing; None where there is only a plural."""
    singular = class_name(name).singular
    return (singular[0] if rng.random() < 0.6 else rng.choice(singular)) if singular else None


def _noun_phrase(rng: Random, name: str, count: int, adjective: str | None = None) -> str:
    """A name with or without article, number and adjective; of several things also as a class name."""
    words = class_name(name)
    lead = f"{adjective} " if adjective else ""
    is_plural = not words.singular or (count > 1 and bool(words.plural) and rng.random() < 0.6)
    if is_plural:
        noun = words.plural[0] if rng.random() < 0.6 else rng.choice(words.plural)
        determiners = ["", "", "the ", "all ", "all the ", "some "]
        if 1 < count <= len(NUMBERS) and words.singular:
            determiners += [f"{NUMBERS[count - 1]} ", f"the {NUMBERS[count - 1]} "]
        if not words.singular and count == 1:
            determiners += ["a pair of "]
        return rng.choice(determiners) + lead + noun
    noun = words.singular[0] if rng.random() < 0.6 else rng.choice(words.singular)
    phrase = lead + noun
    if name in UNCOUNTABLE:
        return rng.choice(("", "", "the ")) + phrase
    article = "an " if phrase[0] in "aeiou" else "a "
    return rng.choice(("", "", article, article, "the ")) + phrase
