"""Questions about scenes: answers of their programs, spans of their phrases, balanced answers."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from mdetr.data.sources.clevr import answer_type, question_type, read_clevr
from mdetr.data.sources.clevr_programs import VALUES as VALUE_OF
from mdetr.data.sources.clevr_programs import find_mentions, run_program
from mdetr.errors import InvalidInputError
from mdetr.model.answer_space import CLEVR_VOCABULARY
from mdetr.synthetic_clevr.groups import VALUES
from mdetr.synthetic_clevr.questions import FORMS, AnswerBalance, Form, sample_questions
from mdetr.synthetic_clevr.scenes import sample_scene
from mdetr.synthetic_clevr.synthesize import write_questions
from mdetr.synthetic_clevr.wordings import all_wordings

SHAPES = Path(__file__).parents[1] / "fixtures" / "shapes"
SCENES = 300
Questions = list[tuple[dict, dict, Form]]


def _scene(seed: int) -> dict:
    scene = sample_scene(np.random.default_rng(seed))
    names = ("shape", "color", "material", "size")
    objects = [{name: getattr(thing, name) for name in names} for thing in scene.objects]
    return {"objects": objects, "relationships": scene.relationships()}


@pytest.fixture(scope="module")
def questions() -> Questions:
    balance, forms = AnswerBalance(), list(FORMS)
    return [
        (scene, entry, forms[entry["question_family_index"]])
        for seed in range(SCENES)
        for scene in [_scene(seed)]
        for entry in sample_questions(scene, 12, np.random.default_rng(seed), balance)
    ]


def test_programs_give_the_answers(questions: Questions) -> None:
    for scene, entry, _ in questions:
        output = run_program(entry["program"], scene["objects"], scene["relationships"])[-1]
        answer = {True: "yes", False: "no"}[output] if isinstance(output, bool) else str(output)
        assert answer == entry["answer"]
        assert answer in CLEVR_VOCABULARY[answer_type(answer)]


def test_every_phrase_is_true_of_its_objects(questions: Questions) -> None:
    for scene, entry, _ in questions:
        for phrase in entry["phrases"]:
            ((start, end),) = phrase["spans"]
            words = entry["question"][start:end].lower().split()
            values = {VALUE_OF[word] for word in (w.removesuffix("s") for w in words) if word in VALUE_OF}
            for thing in phrase["objects"]:
                assert values <= set(scene["objects"][thing].values()), entry["question"]


def test_the_phrases_are_those_of_the_program(questions: Questions) -> None:
    """The objects that the phrases name are those of the sets of the program, which is written separately."""
    for scene, entry, form in questions:
        if form.kind == "or":
            continue  # the program's union has no phrase of its own
        outputs = run_program(entry["program"], scene["objects"], scene["relationships"])
        mentioned = [m.objects for m in find_mentions(entry["program"], outputs, entry["question"])]
        named = [tuple(phrase["objects"]) for phrase in entry["phrases"]]
        assert Counter(mentioned) == Counter(named), entry["question"]


def test_every_form_of_clevr_occurs(questions: Questions) -> None:
    forms = Counter(form for _, _, form in questions)
    assert set(forms) == set(FORMS)
    for family in ("exist", "count", "query"):
        for kind, hops in (
            ("relate", 0),
            ("relate", 1),
            ("relate", 2),
            ("relate", 3),
            ("same", 1),
            ("and", 1),
        ):
            assert forms[Form(family, kind, hops)] >= 20
    families = Counter(question_type(entry["program"]) for _, entry, _ in questions)
    assert set(families) == {"exist", "count", "query attribute", "compare number", "compare attribute"}
    assert min(families.values()) > 0.1 * len(questions)


def test_a_question_has_the_links_of_its_form(questions: Questions) -> None:
    for _, entry, form in questions:
        steps = Counter(step["function"].partition("_")[0] for step in entry["program"])
        sides = 2 if form.family in ("equal", "greater_than", "less_than", "equal_integer") else 1
        expected = {"relate": form.hops * sides, "same": 0, "and": 2, "or": 0}[form.kind]
        assert steps["relate"] == expected
        assert steps["same"] == (form.kind == "same")
        assert steps["intersect"] == (form.kind == "and")
        assert steps["union"] == (form.kind == "or")


def test_yes_is_as_frequent_as_no_within_every_form(questions: Questions) -> None:
    answers: defaultdict[Form, Counter[str]] = defaultdict(Counter)
    for _, entry, form in questions:
        answers[form][entry["answer"]] += 1
    binary = [form for form in FORMS if form.family not in ("count", "query")]
    for form in binary:
        assert set(answers[form]) == {"yes", "no"}
        # Counted within each number of words as well, so that a form may differ by one for each of them.
        assert abs(answers[form]["yes"] - answers[form]["no"]) <= 9
        assert 0.4 < answers[form]["yes"] / answers[form].total() < 0.6


def test_the_number_of_attributes_does_not_give_away_the_answer(questions: Questions) -> None:
    lengths: defaultdict[str, list[int]] = defaultdict(list)
    for _, entry, form in questions:
        if form.family == "exist":
            lengths[entry["answer"]].append(sum("filter" in step["function"] for step in entry["program"]))
    assert np.mean(lengths["yes"]) == pytest.approx(np.mean(lengths["no"]), abs=0.25)


def test_the_values_of_an_attribute_are_equally_frequent(questions: Questions) -> None:
    answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for _, entry, form in questions:
        if form.family == "query":
            answers[entry["program"][-1]["function"].removeprefix("query_")][entry["answer"]] += 1
    for attribute, values in VALUES.items():
        assert set(answers[attribute]) == set(values)
        fractions = np.array(list(answers[attribute].values())) / answers[attribute].total()
        assert fractions.min() > 0.75 / len(values)
        assert fractions.max() < 1.3 / len(values)


def test_no_number_is_the_answer_of_most_counting_questions(questions: Questions) -> None:
    numbers = Counter(entry["answer"] for _, entry, form in questions if form.family == "count")
    assert max(numbers.values()) < 0.35 * numbers.total()
    assert {"0", "1", "2", "3", "4", "5"} <= set(numbers)
    assert sum(numbers[number] for number in ("0", "1", "2")) < 0.85 * numbers.total()


def test_there_are_many_wordings_and_texts_in_several_styles(questions: Questions) -> None:
    assert len(all_wordings()) >= 150
    texts = [entry["question"] for _, entry, _ in questions]
    starts = Counter(" ".join(text.lower().split()[:3]) for text in texts)
    assert len(starts) > 100
    fractions = {
        "small letter": np.mean([text[0].islower() for text in texts]),
        "no mark": np.mean([text[-1] not in "?." for text in texts]),
        "command": np.mean([text[-1] == "." for text in texts]),
        "it": np.mean([bool(re.search(r"; .*\bits?\b", text)) for text in texts]),
        "no article": np.mean([not re.search(r"\b(the|an?|another)\b", text.lower()) for text in texts]),
    }
    assert all(0.04 < fraction < 0.4 for fraction in fractions.values()), fractions
    assert not any(re.search(r"[\[\]{}<>|]|\s\s", text) for text in texts)


def test_the_name_of_an_object_does_not_mention_its_queried_attribute(questions: Questions) -> None:
    for _, entry, form in questions:
        if form.family == "query" and form.hops == 0:
            attribute = entry["program"][-1]["function"].removeprefix("query_")
            assert not any(step["function"] == f"filter_{attribute}" for step in entry["program"])


def test_the_same_seed_gives_the_same_questions_without_duplicates() -> None:
    first, second = (sample_questions(_scene(3), 10, np.random.default_rng(5)) for _ in range(2))
    assert first == second
    assert len({entry["question"] for entry in first}) == len(first)


def test_questions_about_existing_scenes_are_written_and_read_back(tmp_path: Path) -> None:
    for name in ("scenes", "images"):
        (tmp_path / name).symlink_to(SHAPES / name)
    count = write_questions(tmp_path, "train", 6, seed=1)
    content = json.loads((tmp_path / "questions" / "CLEVR_train_questions.json").read_text())
    assert len(content["questions"]) == count > 30
    records = list(read_clevr(tmp_path, "train", kinds=("question",)))
    for record, entry in zip(records, content["questions"], strict=True):
        assert record.answer == entry["answer"]
        assert len(record.boxes) == len({n for phrase in entry["phrases"] for n in phrase["objects"]})
        spans_with_objects = {
            tuple(span) for phrase in entry["phrases"] if phrase["objects"] for span in phrase["spans"]
        }
        assert {span for spans in record.spans for span in spans} == spans_with_objects
    with pytest.raises(InvalidInputError, match="already exists"):
        write_questions(tmp_path, "train", 6)
