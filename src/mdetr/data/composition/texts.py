"""Texts composed from the named boxes of an image: names, colors, positions, counts, absent objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Generator, Tensor

from mdetr.data.composition.mentions import absent_mention, any_mention, relation
from mdetr.data.composition.scene import Mention, Scene, scene_of
from mdetr.data.examples import Records
from mdetr.data.protocol_fields import protocol_fields
from mdetr.data.record import Record
from mdetr.processing.coordinates import Span

CALLS = (
    *("find {}", "where is {}?", "show me {}", "look for {}", "point at {}", "I am looking for {}"),
    "detect {}",
)
SCENES = ("a photo of {}", "there is {}", "{} in the picture", "a picture of {}", "{} here", "I can see {}")
PAIRS = ("{} and {}", "{} with {}", "{} next to {}", "{} near {}", "{}, {}", "{} together with {}")
ABSENT_IN_PAIRS = 0.35  # fraction of pairs in which the second object is absent


@dataclass(frozen=True)
class ComposeTexts:
    """Replaces records of class names by random texts about the same boxes.

    A record of class names lists the absent classes in its extra fields ("absent": [...]), and the words of
    its boxes are their class names. Other records, such as captions, are kept. This step comes after all
    steps that move boxes or change colors, since the texts mention both.

    Attributes:
        texts: Number of texts per image.
    """

    texts: int = 4

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Compose the texts, and return the image unchanged."""
        named = [record for record in records if protocol_fields(record).absent is not None]
        if not named or image.device.type == "meta":  # only the shape is needed
            return image, records

        # Keep up to half of the texts as captions
        rng = Random(int(torch.randint(2**31, (), generator=generator)))
        captions = [record for record in records if protocol_fields(record).absent is None]
        captions = rng.sample(captions, min(len(captions), self.texts // 2))

        # Compose the others
        scene = scene_of(named[0], image)
        composed = [compose(named[0], scene, rng, number) for number in range(self.texts - len(captions))]
        return image, (*captions, *composed)


def compose(record: Record, scene: Scene, rng: Random, number: int) -> Record:
    """Compose one text about a scene, as a record."""
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
    """Make a record of a text and its mentions, each with its first character in the text."""
    # Collect the spans of each object
    spans: dict[int, list[Span]] = {}
    referred: set[int] = set()
    for start, mention in mentions:
        root = mention.root or (0, len(mention.text))
        for part, things in ((root, mention.things), *mention.others):
            for thing in things:
                spans.setdefault(thing, []).append((start + part[0], start + part[1]))
        referred.update(mention.things)

    # Keep the boxes that the text mentions
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
"""Text, mentions with their first characters, and whether the text is one referring expression."""


def _single(scene: Scene, rng: Random) -> Composed | None:
    mention = any_mention(scene, rng)
    if mention is None:
        return None
    template = rng.choice(("{}", "{}", "{}", "{}", *CALLS, *SCENES))
    return _fill(template, [mention], rng)


def _pair(scene: Scene, rng: Random) -> Composed | None:
    first, second = any_mention(scene, rng), any_mention(scene, rng)
    if first is None or second is None or set(first.things) & set(second.things):
        return None
    if rng.random() < ABSENT_IN_PAIRS:
        second = absent_mention(scene, rng, like=scene.things[first.things[0]].name) or second
    text, mentions, _ = _fill(rng.choice(PAIRS), [first, second], rng)
    return text, mentions, False


def _relation(scene: Scene, rng: Random) -> Composed | None:
    mention = relation(scene, rng)
    return None if mention is None else _fill(rng.choice(("{}", "{}", *CALLS)), [mention], rng)


def _nothing(scene: Scene, rng: Random) -> Composed | None:
    mention = absent_mention(scene, rng)
    if mention is None:
        return None
    return _fill(rng.choice(("{}", "{}", "{}", *CALLS, *SCENES)), [mention], rng)


def _list(scene: Scene, rng: Random) -> Composed:
    """List several mentions, some of them absent."""
    # Mention some classes of the image
    names = list(scene.by_name())
    rng.shuffle(names)
    count = rng.choice((1, 2, 3, 4, 5, 8))
    mentions: list[Mention] = []
    for name in names[:count]:
        mention = any_mention(scene, rng, name)
        if mention is not None:
            mentions.append(mention)

    # Add absent ones, without duplicates
    for _ in range(rng.choice((0, 1, 1, 2, 3)) if mentions else 1):
        absent = absent_mention(scene, rng)
        if absent is not None and all(absent.text != mention.text for mention in mentions):
            mentions.append(absent)
    if not mentions:
        mentions = [Mention("nothing", ())]
    rng.shuffle(mentions)

    # Join them
    separator = rng.choice((". ", ". ", ", ", " and ", "; "))
    text, positioned = "", []
    for index, mention in enumerate(mentions):
        text += separator if index else ""
        positioned.append((len(text), mention))
        text += mention.text
    return text + rng.choice(("", ".")), positioned, False


def _fill(template: str, mentions: Sequence[Mention], rng: Random) -> Composed:
    """Insert mentions into a template, which makes one referring expression."""
    pieces = template.split("{}")
    text, positioned = pieces[0], []
    for mention, piece in zip(mentions, pieces[1:], strict=True):
        positioned.append((len(text), mention))
        text += mention.text + piece
    if text[-1].isalnum():
        text += rng.choice(("", "", "."))
    return text, positioned, True
