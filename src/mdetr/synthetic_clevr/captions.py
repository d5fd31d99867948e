"""A grammar of captions and referring expressions: a scene in, true sentences with their phrases out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from mdetr.synthetic_clevr.scenes import COLORS, MATERIALS, SHAPES, SIZES, Scene, SceneObject
from mdetr.synthetic_clevr.wordings import RELATIONS, WORDS

T = TypeVar("T")
EXTREMES = {
    "left": ("leftmost",),
    "right": ("rightmost",),
    "front": ("closest", "nearest"),
    "behind": ("farthest", "most distant"),
}
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}
BARE = "{}"
REQUESTS = (
    "find {}",
    "show me {}",
    "look for {}",
    "where is {}",
    "locate {}",
    "point at {}",
    "please find {}",
)
CLAIMS = (
    "there is {}",
    "here is {}",
    "i see {}",
    "we can see {}",
    "a photo of {}",
    "an image of {}",
    "a picture with {}",
    "this picture shows {}",
)
BARE_SHARE = 0.4  # of captions without words before the first phrase
LIST_SHARE = 0.25  # of captions that are lists of names, as detectors by name are given them
SINGLE_SHARE = 0.35  # of captions with one phrase
CAPITAL_SHARE, STOP_SHARE = 0.35, 0.3
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

    def caption(self, max_phrases: int = 4, absent_share: float = 0.2) -> Sentence | None:
        """One to `max_phrases` phrases, no object named by two of them; None where none was found.

        Args:
            max_phrases: How many phrases at most, anchors not counted.
            absent_share: How often one phrase names something that is not in the scene. In lists of names,
                so often each.
        """
        if self.random.random() < LIST_SHARE:
            return self._list_of_names(max_phrases, absent_share)
        wanted = self._number_of_phrases(max_phrases)
        phrases: list[NounPhrase] = []
        named: set[int] = set()
        kinds = (self._singular, self._plural, self._related, self._named, self._extreme)
        for _ in range(TRIES):
            if len(phrases) == wanted:
                break
            kind = kinds[int(self.random.choice(5, p=(0.4, 0.2, 0.2, 0.12, 0.08)))]
            phrase = kind()
            if phrase is not None and not phrase.mentioned() & named:
                phrases.append(phrase)
                named |= phrase.mentioned()
        leading: Sequence[str] = REQUESTS + CLAIMS
        if self.random.random() < absent_share:
            place = int(self.random.integers(len(phrases) + 1))
            phrases, leading = [*phrases[:place], self._absent(), *phrases[place:]][:wanted], REQUESTS
        if not phrases:
            return None
        frame = BARE if self.random.random() < BARE_SHARE else self._choice(leading)
        return self._sentence(phrases, frame)

    def referring_expression(self) -> Sentence | None:
        """An expression that fits exactly one object: by its attributes, by a relation or by its place."""
        kind = int(self.random.choice(3, p=(0.5, 0.28, 0.22)))
        for _ in range(TRIES):
            phrase = (self._definite, self._singled_out_by_relation, self._extreme)[kind]()
            if phrase is not None:
                if self.random.random() < 0.2:
                    phrase = replace(phrase, words=phrase.words.removeprefix("the "))
                frame = self._choice(REQUESTS) if self.random.random() < 0.25 else BARE
                sentence = self._sentence([phrase], frame)
                return Sentence(sentence.text, sentence.phrases, target=phrase.objects[0])
        return None

    def _list_of_names(self, max_phrases: int, absent_share: float) -> Sentence | None:
        """Names without articles, each for all that it fits, as "red cube. ball." or "cubes, balls"."""
        phrases: list[NounPhrase] = []
        wanted = self._number_of_phrases(max_phrases)
        for _ in range(TRIES):
            if len(phrases) == wanted:
                break
            phrase = self._absent() if self.random.random() < absent_share else self._named()
            named = {index for other in phrases for index in other.objects}
            if phrase.words not in {other.words for other in phrases} and not named & set(phrase.objects):
                phrases.append(phrase)
        bare = [replace(phrase, words=_without_article(phrase.words)) for phrase in phrases]
        between = self._choice((", ", ", ", ". ", " and ", "; "))
        return self._sentence(bare, BARE, between)

    def _number_of_phrases(self, most: int) -> int:
        return 1 if self.random.random() < SINGLE_SHARE else int(self.random.integers(1, most + 1))

    def _named(self) -> NounPhrase:
        """All objects that a description fits, one or many, by a noun without an article or a number."""
        descriptions = tuple(self._fitting)
        description = self._choice(descriptions)
        objects = self._fitting[description]
        adjectives, noun = self._adjectives_and_noun(description)
        start = self._choice(("{} {}", "{} {}", "{} {}s", "all {} {}s", "every {} {}"))
        words = " ".join(start.format(" ".join(adjectives), noun).split())
        return NounPhrase(words, objects)

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
                return NounPhrase(f"the {self._choice(EXTREMES[direction])} {words}", (index,))
        return None

    def _absent(self) -> NounPhrase:
        """Something that no object of the scene is, by some or all of its attributes."""
        while True:
            size, material = self._choice(tuple(SIZES)), self._choice(MATERIALS)
            color, shape = self._choice(tuple(COLORS)), self._choice(SHAPES)
            said = [value if self.random.random() < 0.6 else None for value in (size, color, material, shape)]
            description = Description(*said)
            if any(said) and not any(description.fits(thing) for thing in self.objects):
                count = int(self.random.choice(3, p=(0.0, 0.8, 0.2)))
                return NounPhrase(self._words(description, count, definite=False), ())

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
        adjectives, noun = self._adjectives_and_noun(description)
        if count > 1:
            start = self._choice(("the", COUNTS[count], COUNTS[count]))
            return " ".join([start, *adjectives, noun + "s"])
        article = "the" if definite else "an" if not adjectives and noun == "object" else "a"
        return " ".join([article, *adjectives, noun])

    def _adjectives_and_noun(self, description: Description) -> tuple[list[str], str]:
        said = (description.size, description.color, description.material)
        adjectives = [self._synonym(value) for value in said if value is not None]
        return adjectives, self._synonym(description.shape or "thing")

    def _synonym(self, word: str) -> str:
        return self._choice(WORDS.get(word, (word,)))

    def _choice(self, values: Sequence[T]) -> T:
        return values[int(self.random.integers(len(values)))]

    def _sentence(self, phrases: Sequence[NounPhrase], frame: str, between: str | None = None) -> Sentence:
        """Join phrases, put them into the frame, and keep track of their characters.

        Args:
            phrases: One or more.
            frame: What stands before them.
            between: What stands between two; left out, commas and "and".
        """
        if phrases[0].words.endswith("s"):  # a bare "ball" may stand for several, too
            frame = re.sub(r"\b(there|here|where) is\b", r"\1 are", frame)
        text = frame.split("{}")[0]
        spans: list[tuple[tuple[int, int], tuple[int, ...]]] = []
        for place, phrase in enumerate(phrases):
            if place:
                text += between or (" and " if place == len(phrases) - 1 else ", ")
            for part in _with_anchor(phrase):
                spans.append(((len(text), len(text) + len(part.words)), part.objects))
                text += part.words + (f" {part.tail} " if part.tail else "")
        if self.random.random() < CAPITAL_SHARE:
            text = text[0].upper() + text[1:]
        if self.random.random() < STOP_SHARE:
            text += "."
        return Sentence(text, tuple(spans))


def _without_article(words: str) -> str:
    return re.sub(r"^(the|an?|two) ", "", words)


def _with_anchor(phrase: NounPhrase) -> list[NounPhrase]:
    return [phrase, *(_with_anchor(phrase.anchor) if phrase.anchor else [])]


def descriptions_of(thing: SceneObject) -> list[Description]:
    """All that can be said of it: every subset of size, colour and material, with or without the shape."""
    choices = itertools.product(
        (None, thing.size), (None, thing.color), (None, thing.material), (None, thing.shape)
    )
    return [Description(*values) for values in choices if any(values)]
