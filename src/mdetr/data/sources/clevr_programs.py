"""Execution of CLEVR's functional programs, to find the objects that each phrase names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Span

ATTRIBUTES = ("size", "color", "material", "shape")
VALUES = {  # the words for the values of attributes
    **{"large": "large", "big": "large", "small": "small", "tiny": "small"},
    **{"rubber": "rubber", "matte": "rubber", "metal": "metal", "metallic": "metal", "shiny": "metal"},
    **{color: color for color in ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")},
    **{"cube": "cube", "block": "cube", "sphere": "sphere", "ball": "sphere", "cylinder": "cylinder"},
}
_NOUNS = ("thing", "object", "cube", "block", "sphere", "ball", "cylinder")
_ADJECTIVES = [word for word in VALUES if word not in _NOUNS]
_NOUN_PHRASE = re.compile(
    rf"\b((?:(?:{'|'.join(_ADJECTIVES)}),? )*)({'|'.join(_NOUNS)}|anything(?: else)?)s?\b", re.IGNORECASE
)
_ABOUT_IT = re.compile(r";[^;]*\bit\W*$")  # "There is a ball; how many cubes are behind it?"

Output = Any
"""What a step gives: indices of objects, one index, an attribute's value, a number, or true and false."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A set of objects that a program refers to; span: its noun phrase in the text, if one is found."""

    objects: tuple[int, ...]
    span: Span | None


def run_program(
    program: Sequence[Mapping[str, Any]],
    objects: Sequence[Mapping[str, Any]],
    relationships: Mapping[str, Sequence[Sequence[int]]],
) -> list[Output]:
    """Execute a program on a scene; steps with an `_output` keep it.

    Args:
        program: Steps of the program: function, inputs and values.
        objects: Objects of the scene.
        relationships: Relation -> for each object, the objects in that relation to it.

    Returns:
        The output of each step.

    Raises:
        InvalidInputError: A step is unknown or does not fit the scene.
    """
    outputs: list[Output] = []
    for number, step in enumerate(program):
        try:
            if any(place < 0 for place in step["inputs"]):  # Python would count from the end
                raise IndexError("an input is negative")
            inputs = [outputs[place] for place in step["inputs"]]
            outputs.append(
                step["_output"] if "_output" in step else _run(step, inputs, objects, relationships)
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            name = step.get("function", step.get("type")) if isinstance(step, dict) else step
            raise InvalidInputError(
                f"step {number} of its program ({name!s:.20}) does not fit its scene ({error!r})"
            ) from None
    return outputs


def _run(
    step: Mapping[str, Any],
    inputs: Sequence[Output],
    objects: Sequence[Mapping[str, Any]],
    relationships: Mapping[str, Sequence[Sequence[int]]],
) -> Output:
    name, values = function_of(step), _values_of(step)
    kind, _, attribute = name.partition("_")
    if name == "scene":
        return list(range(len(objects)))
    if kind == "filter" and attribute in ATTRIBUTES:
        return [thing for thing in inputs[0] if objects[thing][attribute] == values[0]]
    if name == "unique":
        (only,) = inputs[0]
        return only
    if name == "relate":
        return list(relationships[values[0]][inputs[0]])
    if kind == "same":
        own = objects[inputs[0]][attribute]
        return [n for n, thing in enumerate(objects) if n != inputs[0] and thing[attribute] == own]
    if kind == "query":
        return objects[inputs[0]][attribute]
    if kind == "equal":
        return inputs[0] == inputs[1]
    simple = {
        "union": lambda: sorted({*inputs[0], *inputs[1]}),
        "intersect": lambda: sorted({*inputs[0]} & {*inputs[1]}),
        "count": lambda: len(inputs[0]),
        "exist": lambda: bool(inputs[0]),
        "less_than": lambda: inputs[0] < inputs[1],
        "greater_than": lambda: inputs[0] > inputs[1],
    }
    return simple[name]()


def find_mentions(
    program: Sequence[Mapping[str, Any]], outputs: Sequence[Output], text: str
) -> list[Mention]:
    """The sets of objects that a program refers to, each with its noun phrase.

    A set is what all filters leave of a scene, a relation, a union or an intersection. The text names the
    sets from the program's last step back to its first; each takes the next phrase that says its attributes.
    """
    phrases = [(_meaning(match), match.span()) for match in _NOUN_PHRASE.finditer(text)]
    if _ABOUT_IT.search(text):  # what is asked for comes behind what it is related to
        phrases.sort(key=lambda phrase: phrase[1][0] < text.rindex(";"))
    mentions = []
    for end, attributes in _sets(program, len(program) - 1):
        place = next((n for n, (meaning, _) in enumerate(phrases) if meaning == attributes), None)
        span = None if place is None else phrases.pop(place)[1]
        mentions.append(Mention(tuple(outputs[end]), span))
    return mentions


def _sets(
    program: Sequence[Mapping[str, Any]], last: int, of: str | None = None
) -> list[tuple[int, frozenset[str]]]:
    """The last step of each set with the values of its filters, depth first from `last`, an input of `of`."""
    step = last
    found: list[tuple[int, frozenset[str]]] = []
    if _gives_set(program[last]):
        values: set[str] = set()
        while function_of(program[step]).startswith("filter_"):
            values.update(value for value in _values_of(program[step]) if value in VALUES.values())
            (step,) = program[step]["inputs"]
        if step != last or of not in (
            "intersect",
            "union",
        ):  # "right of it and left of it": no set of their own
            found.append((last, frozenset(values)))
    for place in program[step]["inputs"]:
        found += _sets(program, place, function_of(program[step]))
    return found


def _gives_set(step: Mapping[str, Any]) -> bool:
    name = function_of(step)
    return name.startswith(("filter_", "same_")) or name in ("scene", "relate", "union", "intersect")


def _meaning(phrase: re.Match[str]) -> frozenset[str]:
    words = [*phrase[1].lower().replace(",", " ").split(), phrase[2].lower()]
    return frozenset(VALUES[word] for word in words if word in VALUES)


def function_of(step: Mapping[str, Any]) -> str:
    """A step's function: CLEVR and CLEVR-Ref+ name the field differently."""
    return str(step["function"] if "function" in step else step["type"])


def _values_of(step: Mapping[str, Any]) -> list[str]:
    values = step.get("value_inputs", step.get("side_inputs"))
    return [str(value) for value in values or ()]
