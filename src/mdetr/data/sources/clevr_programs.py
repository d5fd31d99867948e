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
"""Output of a step: indices of objects, one index, the value of an attribute, a number, or true or false."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A set of objects that a program refers to, with the span of its noun phrase; None without a match."""

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
            inputs = []
            for index in step["inputs"]:
                if index < 0:  # Python would count from the end
                    raise IndexError("an input is negative")
                inputs.append(outputs[index])
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
        value = objects[inputs[0]][attribute]
        return [n for n, thing in enumerate(objects) if n != inputs[0] and thing[attribute] == value]
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
    """Match the sets of objects that a program refers to with their noun phrases.

    A set is a scene, a relation, a union or an intersection after all its filters. The text names the sets
    from the last step of the program back to the first; each is matched with the next phrase that has its
    attributes.

    Args:
        program: Steps of the program: function, inputs and values.
        outputs: The output of each step (`run_program`).
        text: The text of the program.

    Returns:
        The sets in the order in which the text names them.
    """
    phrases = [(_meaning(match), match.span()) for match in _NOUN_PHRASE.finditer(text)]
    if _ABOUT_IT.search(text):  # the queried set follows the set that it is related to
        phrases.sort(key=lambda phrase: phrase[1][0] < text.rindex(";"))
    mentions = []
    for end, attributes in _sets(program, len(program) - 1):
        span = None
        for index, (meaning, phrase_span) in enumerate(phrases):
            if meaning == attributes:
                span = phrase_span
                del phrases[index]
                break
        mentions.append(Mention(tuple(outputs[end]), span))
    return mentions


def _sets(
    program: Sequence[Mapping[str, Any]], last: int, of: str | None = None
) -> list[tuple[int, frozenset[str]]]:
    """List the last step of each set with the values of its filters, depth first from `last`.

    `of` is the function of the step whose input `last` is.
    """
    step = last
    sets: list[tuple[int, frozenset[str]]] = []
    if _gives_set(program[last]):
        values: set[str] = set()
        while function_of(program[step]).startswith("filter_"):
            values.update(value for value in _values_of(program[step]) if value in VALUES.values())
            (step,) = program[step]["inputs"]
        # In "right of it and left of it" the two relations are not sets with separate noun phrases
        if step != last or of not in ("intersect", "union"):
            sets.append((last, frozenset(values)))
    for index in program[step]["inputs"]:
        sets += _sets(program, index, function_of(program[step]))
    return sets


def _gives_set(step: Mapping[str, Any]) -> bool:
    name = function_of(step)
    return name.startswith(("filter_", "same_")) or name in ("scene", "relate", "union", "intersect")


def _meaning(phrase: re.Match[str]) -> frozenset[str]:
    words = [*phrase[1].lower().replace(",", " ").split(), phrase[2].lower()]
    return frozenset(VALUES[word] for word in words if word in VALUES)


def function_of(step: Mapping[str, Any]) -> str:
    """Return the function of a step, whose field CLEVR and CLEVR-Ref+ name differently."""
    return str(step["function"] if "function" in step else step["type"])


def _values_of(step: Mapping[str, Any]) -> list[str]:
    values = step.get("value_inputs", step.get("side_inputs"))
    return [str(value) for value in values or ()]
