"""CLEVR's programs: what they give, and which noun phrase names which objects."""

from __future__ import annotations

from typing import Any

import pytest

from mdetr.data.sources.clevr_programs import find_mentions, run_program
from mdetr.errors import InvalidInputError

OBJECTS = [
    {"size": "large", "color": "red", "material": "metal", "shape": "cube"},
    {"size": "small", "color": "red", "material": "rubber", "shape": "sphere"},
    {"size": "small", "color": "blue", "material": "metal", "shape": "sphere"},
]
RELATIONSHIPS = {"left": [[], [0], [0, 1]], "right": [[1, 2], [2], []]}


def _program(*steps: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [
        {"function": name, "inputs": list(inputs), "value_inputs": list(values)}
        for name, inputs, *values in steps
    ]


SPHERE = [("scene", []), ("filter_color", [0], "blue"), ("filter_shape", [1], "sphere"), ("unique", [2])]


@pytest.mark.parametrize(
    ("steps", "answer"),
    [
        ([*SPHERE, ("query_material", [3])], "metal"),
        ([*SPHERE, ("same_shape", [3]), ("count", [4])], 1),
        ([*SPHERE, ("relate", [3], "left"), ("filter_size", [4], "small"), ("exist", [5])], True),
        ([*SPHERE, ("relate", [3], "right"), ("exist", [4])], False),
        (
            [("scene", []), ("filter_color", [0], "red"), ("filter_size", [0], "small"), ("union", [1, 2])],
            [0, 1, 2],
        ),
        (
            [
                ("scene", []),
                ("filter_color", [0], "red"),
                ("filter_size", [0], "small"),
                ("intersect", [1, 2]),
            ],
            [1],
        ),
        (
            [
                ("scene", []),
                ("count", [0]),
                *[("filter_size", [0], "large"), ("count", [2])],
                ("greater_than", [1, 3]),
            ],
            True,
        ),
        ([("scene", []), ("count", [0]), ("equal_integer", [1, 1])], True),
    ],
)
def test_a_program_gives_what_its_last_step_says(steps: list[tuple[Any, ...]], answer: Any) -> None:
    assert run_program(_program(*steps), OBJECTS, RELATIONSHIPS)[-1] == answer


def _mentions(text: str, *steps: tuple[Any, ...]) -> list[tuple[tuple[int, ...], str | None]]:
    program = _program(*steps)
    outputs = run_program(program, OBJECTS, RELATIONSHIPS)
    return [
        (mention.objects, None if mention.span is None else text[slice(*mention.span)])
        for mention in find_mentions(program, outputs, text)
    ]


def test_phrases_are_found_by_their_attributes_whatever_the_words() -> None:
    found = _mentions(
        "Is there a big shiny block left of the blue ball?",
        *SPHERE,
        ("relate", [3], "left"),
        ("filter_size", [4], "large"),
        ("filter_material", [5], "metal"),
        ("filter_shape", [6], "cube"),
        ("exist", [7]),
    )
    assert found == [((0,), "big shiny block"), ((2,), "blue ball")]


def test_in_a_question_about_it_the_anchor_comes_first() -> None:
    left = [*SPHERE, ("relate", [3], "left"), ("count", [4])]
    found = _mentions("There is a blue ball; what number of things are left of it?", *left)
    assert found == [((0, 1), "things"), ((2,), "blue ball")]
    found = _mentions(
        "There is a thing that is left of the blue ball; what is it?", *SPHERE, ("relate", [3], "left")
    )
    assert found == [((0, 1), "thing"), ((2,), "blue ball")]


def test_relations_that_meet_are_one_phrase() -> None:
    red = [("filter_color", [0], "red"), ("filter_shape", [4], "cube"), ("unique", [5])]
    both = [
        *SPHERE,
        *red,
        ("relate", [3], "left"),
        ("relate", [6], "right"),
        ("intersect", [7, 8]),
        ("exist", [9]),
    ]
    found = _mentions(
        "Is there an object that is both right of the red cube and left of the blue sphere?", *both
    )
    assert sorted(found) == [((0,), "red cube"), ((1,), "object"), ((2,), "blue sphere")]


def test_anything_else_is_a_phrase() -> None:
    found = _mentions(
        "Is there anything else of the same shape as the blue ball?",
        *SPHERE,
        ("same_shape", [3]),
        ("exist", [4]),
    )
    assert found == [((1,), "anything else"), ((2,), "blue ball")]


@pytest.mark.parametrize(
    "steps",
    [
        [("dance", [])],
        [("scene", []), ("unique", [0])],
        [("scene", []), ("count", [5])],
        [*SPHERE, ("relate", [3], "up")],
    ],
)
def test_a_step_that_does_not_fit_is_named(steps: list[tuple[Any, ...]]) -> None:
    with pytest.raises(InvalidInputError, match=rf"step {len(steps) - 1} of its program \({steps[-1][0]}\)"):
        run_program(_program(*steps), OBJECTS, RELATIONSHIPS)
