"""Captions and referring expressions: true sentences about a scene, with their phrases."""

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
BARE_FRACTION = 0.4  # of captions without words before the first phrase
LIST_FRACTION = 0.25  # of captions that are lists of class names
SINGLE_FRACTION = 0.35  # of captions with one phrase
CAPITALIZED_FRACTION = 0.35  # of sentences that start with a capital letter
STOP_FRACTION = 0.3  # of sentences that end with a full stop
CLEAR_OFFSET = 0.5  # least distance on the ground, in scene units, for a relation to be mentioned
CLEAR_COLUMNS = 0.02  # least distance in the image, in widths, for left and right to be mentioned
MAX_PLURAL = 5
TRIES = 30


@dataclass(frozen=True, slots=True)
class Description:
    """Attributes that a noun phrase mentions; None for those that it does not mention."""

    size: str | None
    color: str | None
    material: str | None
    shape: str | None

    def fits(self, thing: SceneObject) -> bool:
        """Whether an object has all mentioned attributes.

        Args:
            thing: The object.

        Returns:
            True where the description is true of it.
        """
        return (
            self.size in (None, thing.size)
            and self.color in (None, thing.color)
            and self.material in (None, thing.material)
            and self.shape in (None, thing.shape)
        )


@dataclass(frozen=True, slots=True)
class NounPhrase:
    """A noun phrase and the objects that it refers to.

    Attributes:
        words: The words inside the span.
        objects: Indices of the objects; empty for absent ones.
        tail: Relation to the anchor, outside the span.
        anchor: Noun phrase after the relation.
    """

    words: str
    objects: tuple[int, ...]
    tail: str = ""
    anchor: NounPhrase | None = None

    @property
    def is_plural(self) -> bool:
        """Whether it refers to several objects."""
        return len(self.objects) > 1

    def mentioned(self) -> set[int]:
        """Every object that the phrase or its anchor refers to.

        Returns:
            Indices of the objects.
        """
        return set(self.objects) | (self.anchor.mentioned() if self.anchor else set())


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text with its phrases.

    Attributes:
        text: The text.
        phrases: Per phrase, its characters (start, end) and the indices of its objects.
        target: Index of the object that a referring expression denotes; None for a caption.
    """

    text: str
    phrases: tuple[tuple[tuple[int, int], tuple[int, ...]], ...]
    target: int | None = None


class SceneGrammar:
    """Samples sentences about one scene.

    Args:
        scene: The scene.
        random: Source of randomness.
    """

    def __init__(self, scene: Scene, random: np.random.Generator) -> None:
        self.objects = scene.objects
        self.random = random

        # Positions of the objects, on the ground and in the image
        self._offsets = {name: scene.offsets(name) for name in RELATIONS}
        positions = np.array([thing.position for thing in scene.objects])
        self._columns = scene.camera.project(positions, 1, 1)[:, 0]

        # Objects of every possible description
        self._fitting: dict[Description, tuple[int, ...]] = {}
        for thing in scene.objects:
            for description in descriptions_of(thing):
                if description not in self._fitting:
                    fitting = [i for i, other in enumerate(scene.objects) if description.fits(other)]
                    self._fitting[description] = tuple(fitting)

    def caption(self, max_phrases: int = 4, absent_fraction: float = 0.2) -> Sentence | None:
        """Sample a caption of one or more phrases that refer to different objects.

        Args:
            max_phrases: Maximum number of phrases, without anchors.
            absent_fraction: Fraction of captions with a phrase about something that is not in the scene; in
                lists of class names, fraction of the names.

        Returns:
            The caption; None where no phrase was found.
        """
        if self.random.random() < LIST_FRACTION:
            return self._list_of_names(max_phrases, absent_fraction)

        # Collect phrases
        num_phrases = self._num_phrases(max_phrases)
        phrases: list[NounPhrase] = []
        mentioned: set[int] = set()
        kinds = (self._singular, self._plural, self._related, self._named, self._extreme)
        for _ in range(TRIES):
            if len(phrases) == num_phrases:
                break
            kind = kinds[int(self.random.choice(5, p=(0.4, 0.2, 0.2, 0.12, 0.08)))]
            phrase = kind()
            if phrase is not None and not phrase.mentioned() & mentioned:
                phrases.append(phrase)
                mentioned |= phrase.mentioned()

        # Add something absent, which can be requested but not claimed to be there
        frames: Sequence[str] = REQUESTS + CLAIMS
        if self.random.random() < absent_fraction:
            phrases.insert(int(self.random.integers(len(phrases) + 1)), self._absent())
            phrases = phrases[:num_phrases]
            frames = REQUESTS
        if not phrases:
            return None
        frame = BARE if self.random.random() < BARE_FRACTION else self._choice(frames)
        return self._sentence(phrases, frame)

    def referring_expression(self) -> Sentence | None:
        """Sample an expression that denotes one object, by its attributes, a relation or an extreme position.

        Returns:
            The expression; None where none was found.
        """
        kind = int(self.random.choice(3, p=(0.5, 0.28, 0.22)))
        for _ in range(TRIES):
            phrase = (self._definite, self._singled_out_by_relation, self._extreme)[kind]()
            if phrase is None:
                continue
            if self.random.random() < 0.2:
                phrase = replace(phrase, words=phrase.words.removeprefix("the "))
            frame = self._choice(REQUESTS) if self.random.random() < 0.25 else BARE
            sentence = self._sentence([phrase], frame)
            return replace(sentence, target=phrase.objects[0])
        return None

    def _list_of_names(self, max_phrases: int, absent_fraction: float) -> Sentence | None:
        """Names without articles, each for all objects that it fits: "red cube. ball." or "cubes, balls"."""
        # Collect names
        phrases: list[NounPhrase] = []
        words: set[str] = set()
        mentioned: set[int] = set()
        num_phrases = self._num_phrases(max_phrases)
        for _ in range(TRIES):
            if len(phrases) == num_phrases:
                break
            phrase = self._absent() if self.random.random() < absent_fraction else self._named()
            if phrase.words not in words and not mentioned & set(phrase.objects):
                phrases.append(phrase)
                words.add(phrase.words)
                mentioned |= set(phrase.objects)

        # Join them
        bare = [replace(phrase, words=_without_article(phrase.words)) for phrase in phrases]
        between = self._choice((", ", ", ", ". ", " and ", "; "))
        return self._sentence(bare, BARE, between)

    def _num_phrases(self, maximum: int) -> int:
        if self.random.random() < SINGLE_FRACTION:
            return 1
        return int(self.random.integers(1, maximum + 1))

    def _named(self) -> NounPhrase:
        """All objects of a description, one or many, by a noun without an article or a number."""
        description = self._choice(tuple(self._fitting))
        adjectives, noun = self._adjectives_and_noun(description)
        form = self._choice(("{} {}", "{} {}", "{} {}s", "all {} {}s", "every {} {}"))
        words = " ".join(form.format(" ".join(adjectives), noun).split())  # without adjectives, one space
        return NounPhrase(words, self._fitting[description])

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
        """Objects of a description that are in a direction from one other object."""
        # Choose the other object and the direction
        anchor = self._definite()
        if anchor is None:
            return None
        direction = self._choice(tuple(RELATIONS))

        # Choose the objects
        description = self._pick(lambda fitting: set(fitting) != set(anchor.objects))
        if description is None:
            return None
        objects = self._on_side(description, anchor.objects[0], direction)
        if objects is None or not 1 <= len(objects) <= MAX_PLURAL:
            return None

        # Put them into words
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
        """The leftmost, rightmost, closest or farthest of several objects of one description."""
        description = self._pick(lambda fitting: len(fitting) >= 2)
        if description is None:
            return None
        direction = self._choice(tuple(EXTREMES))
        fitting = self._fitting[description]
        for index in fitting:
            others = [other for other in fitting if other != index]
            if all(self._lies(index, other, direction) for other in others):
                words = self._words(description, 1, definite=True).removeprefix("the ")
                return NounPhrase(f"the {self._choice(EXTREMES[direction])} {words}", (index,))
        return None

    def _absent(self) -> NounPhrase:
        """One or two objects of a description that fits no object of the scene."""
        while True:
            # Sample values, and mention some of them
            size, material = self._choice(tuple(SIZES)), self._choice(MATERIALS)
            color, shape = self._choice(tuple(COLORS)), self._choice(SHAPES)
            values = (size, color, material, shape)
            mentioned = [value if self.random.random() < 0.6 else None for value in values]

            # Keep them if they fit no object
            description = Description(*mentioned)
            if any(mentioned) and not any(description.fits(thing) for thing in self.objects):
                count = int(self.random.choice(3, p=(0.0, 0.8, 0.2)))
                return NounPhrase(self._words(description, count, definite=False), ())

    def _pick(self, suits: Callable[[tuple[int, ...]], bool]) -> Description | None:
        suitable = [description for description, fitting in self._fitting.items() if suits(fitting)]
        return suitable[int(self.random.integers(len(suitable)))] if suitable else None

    def _on_side(self, description: Description, anchor: int, direction: str) -> tuple[int, ...] | None:
        """Objects of a description that lie in a direction from an anchor; None where one is unclear."""
        objects = []
        for index in self._fitting[description]:
            if index == anchor:
                continue
            if self._lies(index, anchor, direction):
                objects.append(index)
            elif self._offsets[direction][anchor, index] >= 0:
                return None
        return tuple(objects)

    def _lies(self, index: int, anchor: int, direction: str) -> bool:
        """Whether an object clearly lies in a direction from another, on the ground and in the image."""
        if self._offsets[direction][anchor, index] <= CLEAR_OFFSET:
            return False
        columns = self._columns[index] - self._columns[anchor]
        if direction == "left":
            return bool(-columns >= CLEAR_COLUMNS)
        if direction == "right":
            return bool(columns >= CLEAR_COLUMNS)
        return True

    def _words(self, description: Description, count: int, definite: bool) -> str:
        adjectives, noun = self._adjectives_and_noun(description)
        if count > 1:
            determiner = self._choice(("the", COUNTS[count], COUNTS[count]))
            return " ".join([determiner, *adjectives, noun + "s"])
        indefinite = "an" if not adjectives and noun == "object" else "a"
        determiner = "the" if definite else indefinite
        return " ".join([determiner, *adjectives, noun])

    def _adjectives_and_noun(self, description: Description) -> tuple[list[str], str]:
        values = (description.size, description.color, description.material)
        adjectives = [self._synonym(value) for value in values if value is not None]
        return adjectives, self._synonym(description.shape or "thing")

    def _synonym(self, word: str) -> str:
        return self._choice(WORDS.get(word, (word,)))

    def _choice(self, values: Sequence[T]) -> T:
        return values[int(self.random.integers(len(values)))]

    def _sentence(self, phrases: Sequence[NounPhrase], frame: str, between: str | None = None) -> Sentence:
        """Join phrases to a sentence.

        Args:
            phrases: One or more phrases.
            frame: Text with {} for the phrases.
            between: Separator of phrases; None for commas and "and".

        Returns:
            The sentence, with the characters of all phrases and anchors.
        """
        # Make the verb agree, by the noun: a bare "ball" may refer to several objects too
        if phrases[0].words.endswith("s"):
            frame = re.sub(r"\b(there|here|where) is\b", r"\1 are", frame)

        # Join the phrases and their anchors
        text = frame.split("{}")[0]
        spans: list[tuple[tuple[int, int], tuple[int, ...]]] = []
        for index, phrase in enumerate(phrases):
            if index:
                text += between or (" and " if index == len(phrases) - 1 else ", ")
            for part in _with_anchor(phrase):
                spans.append(((len(text), len(text) + len(part.words)), part.objects))
                text += part.words
                if part.tail:
                    text += f" {part.tail} "

        # Vary the style
        if self.random.random() < CAPITALIZED_FRACTION:
            text = text[0].upper() + text[1:]
        if self.random.random() < STOP_FRACTION:
            text += "."
        return Sentence(text, tuple(spans))


def _without_article(words: str) -> str:
    return re.sub(r"^(the|an?|two) ", "", words)


def _with_anchor(phrase: NounPhrase) -> list[NounPhrase]:
    """A phrase, its anchor, the anchor of that, and so on."""
    parts = [phrase]
    while parts[-1].anchor is not None:
        parts.append(parts[-1].anchor)
    return parts


def descriptions_of(thing: SceneObject) -> list[Description]:
    """All descriptions of an object: every non-empty subset of size, color, material and shape.

    Args:
        thing: The object.

    Returns:
        The descriptions.
    """
    choices = itertools.product(
        (None, thing.size), (None, thing.color), (None, thing.material), (None, thing.shape)
    )
    return [Description(*values) for values in choices if any(values)]
