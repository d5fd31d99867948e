"""A scene as CLEVR's files tell it in; questions with programs and answers, of the paper's families, out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mdetr.clevr.captions import WORDS
from mdetr.clevr.scenes import COLORS, MATERIALS, SHAPES, SIZES
from mdetr.data.sources.clevr_programs import ATTRIBUTES, run_program
from mdetr.errors import InvalidInputError

VALUES: dict[str, tuple[str, ...]] = {
    "size": tuple(SIZES),
    "color": tuple(COLORS),
    "material": MATERIALS,
    "shape": SHAPES,
}
RELATIONS = {
    "left": ("left of", "to the left of", "on the left side of"),
    "right": ("right of", "to the right of", "on the right side of"),
    "behind": ("behind",),
    "front": ("in front of",),
}
FAMILIES = ("exist", "count", "query", "compare_number", "compare_attribute")
SHARES = (0.18, 0.22, 0.3, 0.12, 0.18)
RELATED_SHARE = 0.3  # of questions about a set: that a relation to one thing says where it is
TRIES = 50
Attributes = Mapping[str, str]
Step = dict[str, Any]


class QuestionGrammar:
    """Asks about one scene.

    Args:
        scene: an entry of a scene file: objects with their attributes, and relationships.
        random: where all choices come from.
    """

    def __init__(self, scene: Mapping[str, Any], random: np.random.Generator) -> None:
        self.objects: Sequence[Mapping[str, Any]] = scene["objects"]
        self.relationships: Mapping[str, Any] = scene["relationships"]
        self.random = random

    def question(self) -> dict[str, Any] | None:
        """A question as CLEVR's files hold it: question, answer, program; None where none was found."""
        kind = FAMILIES[int(self.random.choice(len(FAMILIES), p=SHARES))]
        ask: Callable[[list[Step]], str] = getattr(self, f"_{kind}")
        wanted = bool(self.random.random() < 0.5)  # yes and no come equally often
        for _ in range(TRIES):
            program: list[Step] = []
            text = ask(program)
            try:
                answer = run_program(program, self.objects, self.relationships)[-1]
            except InvalidInputError:  # what should be one thing is none, or several
                continue
            if isinstance(answer, bool):
                if answer != wanted:
                    continue
                answer = "yes" if answer else "no"
            family = FAMILIES.index(kind)
            return {
                "question": text[0].upper() + text[1:],
                "answer": str(answer),
                "program": program,
                "question_family_index": family,
            }
        return None

    def _exist(self, program: list[Step]) -> str:
        noun, place, tail = self._set(program)
        _add(program, "exist", [place])
        if self.random.random() < 0.5:
            return f"are there any {noun}s{tail}?"
        return f"is there {'an' if noun == 'object' else 'a'} {noun}{tail}?"

    def _count(self, program: list[Step]) -> str:
        noun, place, tail = self._set(program)
        _add(program, "count", [place])
        start = self._choice(("how many", "what number of"))
        return f"{start} {noun}s are{tail or ' there'}?"

    def _query(self, program: list[Step]) -> str:
        asked = self._choice(ATTRIBUTES)
        words, place = self._one(program, without=asked)
        _add(program, f"query_{asked}", [place])
        frames = {
            "size": ("what size is {}?", "how big is {}?", "what is the size of {}?"),
            "color": ("what color is {}?", "what is the color of {}?"),
            "material": ("what material is {}?", "what is {} made of?", "what is the material of {}?"),
            "shape": ("what shape is {}?", "what is the shape of {}?"),
        }
        return self._choice(frames[asked]).format(words)

    def _compare_number(self, program: list[Step]) -> str:
        first, place, _ = self._set(program, related=False)
        count = _add(program, "count", [place])
        second, place, _ = self._set(program, related=False)
        other = _add(program, "count", [place])
        frames = {
            "greater_than": (
                "are there more {} than {}?",
                "is the number of {} greater than the number of {}?",
            ),
            "less_than": ("are there fewer {} than {}?", "is the number of {} less than the number of {}?"),
            "equal_integer": ("are there as many {} as {}?", "are there the same number of {} and {}?"),
        }
        name = self._choice(tuple(frames))
        _add(program, name, [count, other])
        return self._choice(frames[name]).format(f"{first}s", f"{second}s")

    def _compare_attribute(self, program: list[Step]) -> str:
        asked = self._choice(ATTRIBUTES)
        first, place = self._one(program, without=asked, related=False)
        own = _add(program, f"query_{asked}", [place])
        second, place = self._one(program, without=asked, related=False)
        other = _add(program, f"query_{asked}", [place])
        _add(program, f"equal_{asked}", [own, other])
        frames = ("does {} have the same {a} as {}?", "is the {a} of {} the same as that of {}?")
        return self._choice(frames).format(first, second, a=asked)

    def _one(self, program: list[Step], without: str, related: bool = True) -> tuple[str, int]:
        """A phrase for one thing that does not say one attribute, and the step that finds it."""
        noun, place, tail = self._set(program, without, related)
        return f"the {noun}{tail}", _add(program, "unique", [place])

    def _set(
        self, program: list[Step], without: str | None = None, related: bool = True
    ) -> tuple[str, int, str]:
        """A noun for any number of things, the step that finds them, and words for where they are."""
        attributes = self._attributes(without)
        if related and self.random.random() < RELATED_SHARE:
            base, tail = self._beside(program)
        else:
            base, tail = _add(program, "scene", []), ""
        return self._noun(attributes), _filter(program, base, attributes), tail

    def _beside(self, program: list[Step]) -> tuple[int, str]:
        """The things on one side of one thing, and the words for that."""
        attributes = self._attributes(None)
        anchor = _add(program, "unique", [_filter(program, _add(program, "scene", []), attributes)])
        direction = self._choice(tuple(RELATIONS))
        place = _add(program, "relate", [anchor], direction)
        return place, f" {self._choice(RELATIONS[direction])} the {self._noun(attributes)}"

    def _attributes(self, without: str | None) -> dict[str, str]:
        """Some attributes, mostly of a thing that is there."""
        source: Mapping[str, Any] = self.objects[int(self.random.integers(len(self.objects)))]
        if self.random.random() < 0.2:
            source = {name: self._choice(values) for name, values in VALUES.items()}
        names = [name for name in ATTRIBUTES if name != without and self.random.random() < 0.5]
        return {name: source[name] for name in names}

    def _noun(self, attributes: Attributes) -> str:
        words = [self._synonym(attributes[name]) for name in ATTRIBUTES[:3] if name in attributes]
        return " ".join([*words, self._synonym(attributes.get("shape", "thing"))])

    def _synonym(self, word: str) -> str:
        return self._choice(WORDS.get(word, (word,)))

    def _choice(self, values: Sequence[str]) -> str:
        return values[int(self.random.integers(len(values)))]


def ask_about(scene: Mapping[str, Any], count: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Up to `count` different questions about a scene."""
    grammar = QuestionGrammar(scene, random)
    found = {entry["question"]: entry for _ in range(count) if (entry := grammar.question()) is not None}
    return list(found.values())


def _add(program: list[Step], function: str, inputs: list[int], *values: str) -> int:
    program.append({"function": function, "inputs": inputs, "value_inputs": list(values)})
    return len(program) - 1


def _filter(program: list[Step], base: int, attributes: Attributes) -> int:
    for name in ATTRIBUTES:
        if name in attributes:
            base = _add(program, f"filter_{name}", [base], attributes[name])
    return base
