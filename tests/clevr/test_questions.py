"""Questions about scenes: their programs, run again, give their answers, and their phrases are found."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mdetr.clevr.questions import FAMILIES, ask_about
from mdetr.clevr.scenes import sample_scene
from mdetr.clevr.synthesize import ask_about_split
from mdetr.data.sources.clevr import answer_type, question_type, read_clevr
from mdetr.data.sources.clevr_programs import find_mentions, run_program
from mdetr.errors import InvalidInputError
from mdetr.model.answers import CLEVR_VOCABULARY

SHAPES = Path(__file__).parents[1] / "fixtures" / "shapes"


def _scene(seed: int) -> dict:
    scene = sample_scene(np.random.default_rng(seed))
    names = ("shape", "color", "material", "size")
    objects = [{name: getattr(thing, name) for name in names} for thing in scene.objects]
    return {"objects": objects, "relationships": scene.relationships()}


@pytest.fixture(scope="module")
def asked() -> list[tuple[dict, dict]]:
    return [
        (scene, entry)
        for seed in range(120)
        for scene in [_scene(seed)]
        for entry in ask_about(scene, 10, np.random.default_rng(seed))
    ]


def test_programs_give_the_answers_and_every_phrase_is_found(asked: list[tuple[dict, dict]]) -> None:
    for scene, entry in asked:
        outputs = run_program(entry["program"], scene["objects"], scene["relationships"])
        answer = (
            {True: "yes", False: "no"}[outputs[-1]] if isinstance(outputs[-1], bool) else str(outputs[-1])
        )
        assert answer == entry["answer"]
        assert entry["answer"] in CLEVR_VOCABULARY[answer_type(entry["answer"])]
        mentions = find_mentions(entry["program"], outputs, entry["question"])
        assert all(mention.span is not None for mention in mentions), entry["question"]


def test_all_families_are_asked_and_yes_is_as_frequent_as_no(asked: list[tuple[dict, dict]]) -> None:
    families = Counter(question_type(entry["program"]) for _, entry in asked)
    assert set(families) == {"exist", "count", "query attribute", "compare number", "compare attribute"}
    assert min(families.values()) > 0.08 * len(asked)
    for family in ("exist", "compare number", "compare attribute"):
        answers = Counter(e["answer"] for _, e in asked if question_type(e["program"]) == family)
        assert 0.4 < answers["yes"] / answers.total() < 0.6
    assert {entry["question_family_index"] for _, entry in asked} == set(range(len(FAMILIES)))


def test_the_same_seed_asks_the_same_and_no_question_comes_twice() -> None:
    first, second = (ask_about(_scene(3), 10, np.random.default_rng(5)) for _ in range(2))
    assert first == second
    assert len({entry["question"] for entry in first}) == len(first)


def test_questions_are_added_to_scenes_that_are_there_and_read_back(tmp_path: Path) -> None:
    for name in ("scenes", "images"):
        (tmp_path / name).symlink_to(SHAPES / name)
    count = ask_about_split(tmp_path, "train", 6, seed=1)
    content = json.loads((tmp_path / "questions" / "CLEVR_train_questions.json").read_text())
    assert len(content["questions"]) == count > 30
    records = list(read_clevr(tmp_path, "train", kinds=("question",)))
    assert [record.answer for record in records] == [entry["answer"] for entry in content["questions"]]
    assert sum(bool(record.boxes) for record in records) > count / 2
    with pytest.raises(InvalidInputError, match="is there already"):
        ask_about_split(tmp_path, "train", 6)
