"""A grammar of captions and referring expressions: a scene in, true sentences with their phrases out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mdetr.clevr.scenes import COLORS, MATERIALS, SHAPES, SIZES, Scene, SceneObject

WORDS = {
    "large": ("large", "big"),
    "small": ("small", "tiny"),
    "rubber": ("rubber", "matte"),
    "metal": ("metal", "metallic", "shiny"),
    "cube": ("cube", "block"),
    "sphere": ("sphere", "ball"),
    "cylinder": ("cylinder",),
    "thing": ("thing", "object"),
}
RELATIONS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "behind": ("behind",),
    "front": ("in front of",),
}
EXTREMES = {"left": "leftmost", "right": "rightmost", "front": "closest", "behind": "farthest"}
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}
FRAMES = ("{}", "{}", "there is {}", "i see {}", "a photo of {}", "a picture with {}")
CLEAR_OFFSET = 0.5  # ground units by which a relation must hold to be spoken of
CLEAR_COLUMNS = 0.02  # for left and right also on the picture, in widths
MAX_PLURAL = 5
TRIES = 30


@dataclass(frozen=True, slots=True)
class Description:
    """What a noun phrase says of its objects; None where it says nothing."""

    size: str | None
    color: str | None
    material: str | None
    shape: str | None

    def fits(self, thing: SceneObject) -> bool:
        """Whether the object is what the description says."""
        pairs = (
            (self.size, thing.size),
            (self.color, thing.color),
            (self.material, thing.material),
            (self.shape, thing.shape),
        )
        return all(said is None or said == true for said, true in pairs)


@dataclass(frozen=True, slots=True)
class NounPhrase:
    """A phrase and the objects that it names; `tail` is its relation to `anchor`, outside the span."""

    words: str
    objects: tuple[int, ...]
    tail: str = ""
    anchor: NounPhrase | None = None

    @property
    def is_plural(self) -> bool:
        """Whether it names several objects."""
        return len(self.objects) > 1

    def mentioned(self) -> set[int]:
        """Every object that the phrase or its anchor names."""
        return set(self.objects) | (self.anchor.mentioned() if self.anchor else set())


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text with, per phrase, its span and its objects; `target` is what a referring expression denotes."""

    text: str
    phrases: tuple[tuple[tuple[int, int], tuple[int, ...]], ...]
    target: int | None = None


class SceneGrammar:
    """Makes sentences about one scene.

    Args:
        scene: what is spoken of.
        random: where all choices come from.
    """

    def __init__(self, scene: Scene, random: np.random.Generator) -> None:
        self.objects = scene.objects
        self.random = random
        self._offsets = {name: scene.offsets(name) for name in RELATIONS}
        positions = np.array([thing.position for thing in scene.objects])
        self._columns = scene.camera.project(positions, 1, 1)[:, 0]
        self._fitting: dict[Description, tuple[int, ...]] = {}
        for thing in scene.objects:
            for description in descriptions_of(thing):
                if description not in self._fitting:
                    fitting = [i for i, other in enumerate(scene.objects) if description.fits(other)]
                    self._fitting[description] = tuple(fitting)

    def caption(self, max_phrases: int = 4, absent_share: float = 0.1) -> Sentence | None:
        """One to `max_phrases` phrases, no object named by two of them; None where none was found.

        Args:
            max_phrases: how many phrases at the most, anchors not counted.
            absent_share: how often one phrase names something that is not in the scene.
        """
        wanted = int(self.random.integers(1, max_phrases + 1))
        phrases: list[NounPhrase] = []
        named: set[int] = set()
        kinds = (self._singular, self._plural, self._related)
        for _ in range(TRIES):
            if len(phrases) == wanted:
                break
            kind = kinds[int(self.random.choice(3, p=(0.55, 0.25, 0.2)))]
            phrase = kind()
            if phrase is not None and not phrase.mentioned() & named:
                phrases.append(phrase)
                named |= phrase.mentioned()
        frames: Sequence[str] = FRAMES
        if self.random.random() < absent_share:
            absent = self._absent()
            place = int(self.random.integers(len(phrases) + 1))
            phrases, frames = [*phrases[:place], absent, *phrases[place:]][:wanted], FRAMES[:1]
        return self._sentence(phrases, self._choice(frames)) if phrases else None

    def referring_expression(self) -> Sentence | None:
        """An expression that fits exactly one object: by its attributes, by a relation or by its place."""
        kind = int(self.random.choice(3, p=(0.6, 0.28, 0.12)))
        for _ in range(TRIES):
            phrase = (self._definite, self._singled_out_by_relation, self._extreme)[kind]()
            if phrase is not None:
                sentence = self._sentence([phrase], "{}")
                return Sentence(sentence.text, sentence.phrases, target=phrase.objects[0])
        return None

    def _singular(self) -> NounPhrase | None:
        return self._unique(definite=bool(self.random.random() < 0.4))

    def _definite(self) -> NounPhrase | None:
        return self._unique(definite=True)

    def _unique(self, definite: bool) -> NounPhrase | None:
        description = self._pick(lambda fitting: len(fitting) == 1)
        if description is None:
            return None
        return NounPhrase(self._words(description, 1, definite), self._fitting[description])

    def _plural(self) -> NounPhrase | None:
        description = self._pick(lambda fitting: 2 <= len(fitting) <= MAX_PLURAL)
        if description is None:
            return None
        objects = self._fitting[description]
        return NounPhrase(self._words(description, len(objects), definite=False), objects)

    def _related(self) -> NounPhrase | None:
        """Objects that a description and a relation to one other object single out together."""
        anchor = self._definite()
        if anchor is None:
            return None
        direction = self._choice(tuple(RELATIONS))
        description = self._pick(lambda fitting: set(fitting) != set(anchor.objects))
        if description is None:
            return None
        objects = self._on_side(description, anchor.objects[0], direction)
        if objects is None or not 1 <= len(objects) <= MAX_PLURAL:
            return None
        relation = self._choice(RELATIONS[direction])
        definite = bool(self.random.random() < 0.5) and len(objects) == 1
        return NounPhrase(self._words(description, len(objects), definite), objects, relation, anchor)

    def _singled_out_by_relation(self) -> NounPhrase | None:
        phrase = self._related()
        if phrase is None or phrase.is_plural:
            return None
        words = phrase.words.split(" ", 1)[1]
        return NounPhrase(f"the {words}", phrase.objects, phrase.tail, phrase.anchor)

    def _extreme(self) -> NounPhrase | None:
        """The leftmost, rightmost, closest or farthest of several that fit one description."""
        description = self._pick(lambda fitting: len(fitting) >= 2)
        if description is None:
            return None
        direction = self._choice(tuple(EXTREMES))
        fitting = self._fitting[description]
        for index in fitting:
            if all(other == index or self._lies(index, other, direction) for other in fitting):
                words = self._words(description, 1, definite=True).removeprefix("the ")
                return NounPhrase(f"the {EXTREMES[direction]} {words}", (index,))
        return None

    def _absent(self) -> NounPhrase:
        """Something fully described that no object of the scene is."""
        while True:
            size, material = self._choice(tuple(SIZES)), self._choice(MATERIALS)
            color, shape = self._choice(tuple(COLORS)), self._choice(SHAPES)
            full = Description(size, color, material, shape)
            description = full if self.random.random() < 0.5 else Description(None, color, None, shape)
            if not any(description.fits(thing) for thing in self.objects):
                return NounPhrase(self._words(description, 1, definite=False), ())

    def _pick(self, suits: Callable[[tuple[int, ...]], bool]) -> Description | None:
        suitable = [description for description, fitting in self._fitting.items() if suits(fitting)]
        return suitable[int(self.random.integers(len(suitable)))] if suitable else None

    def _on_side(self, description: Description, anchor: int, direction: str) -> tuple[int, ...] | None:
        """The fitting objects that clearly lie on that side of the anchor; None where one is in doubt."""
        sides = {i: self._side(i, anchor, direction) for i in self._fitting[description] if i != anchor}
        if None in sides.values():
            return None
        return tuple(index for index, lies in sides.items() if lies)

    def _side(self, index: int, anchor: int, direction: str) -> bool | None:
        if self._lies(index, anchor, direction):
            return True
        return False if self._offsets[direction][anchor, index] < 0 else None

    def _lies(self, index: int, anchor: int, direction: str) -> bool:
        """Whether an object clearly lies in a direction from another, on the ground and to the eye."""
        columns = self._columns[index] - self._columns[anchor]
        seen = {"left": -columns, "right": columns}.get(direction, CLEAR_COLUMNS)
        return bool(self._offsets[direction][anchor, index] > CLEAR_OFFSET and seen >= CLEAR_COLUMNS)

    def _words(self, description: Description, count: int, definite: bool) -> str:
        adjectives = [
            self._synonym(value)
            for value in (description.size, description.color, description.material)
            if value is not None
        ]
        noun = self._synonym(description.shape or "thing")
        if count > 1:
            start = self._choice(("the", COUNTS[count], COUNTS[count]))
            return " ".join([start, *adjectives, noun + "s"])
        article = "the" if definite else "an" if not adjectives and noun == "object" else "a"
        return " ".join([article, *adjectives, noun])

    def _synonym(self, word: str) -> str:
        return self._choice(WORDS.get(word, (word,)))

    def _choice(self, values: Sequence[str]) -> str:
        return values[int(self.random.integers(len(values)))]

    def _sentence(self, phrases: Sequence[NounPhrase], frame: str) -> Sentence:
        """Join phrases by commas and "and", put them into the frame, and keep track of their characters."""
        if frame.startswith("there is") and phrases[0].is_plural:
            frame = frame.replace("there is", "there are", 1)
        text = frame.split("{}")[0]
        spans: list[tuple[tuple[int, int], tuple[int, ...]]] = []
        for place, phrase in enumerate(phrases):
            if place:
                text += " and " if place == len(phrases) - 1 else ", "
            for part in _with_anchor(phrase):
                spans.append(((len(text), len(text) + len(part.words)), part.objects))
                text += part.words + (f" {part.tail} " if part.tail else "")
        return Sentence(text, tuple(spans))


def _with_anchor(phrase: NounPhrase) -> list[NounPhrase]:
    return [phrase, *(_with_anchor(phrase.anchor) if phrase.anchor else [])]


def descriptions_of(thing: SceneObject) -> list[Description]:
    """All that can be said of it: every subset of size, colour and material, with or without the shape."""
    choices = itertools.product(
        (None, thing.size), (None, thing.color), (None, thing.material), (None, thing.shape)
    )
    return [Description(*values) for values in choices if any(values)]
