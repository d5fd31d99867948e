"""Sentences: true of their scene, with the spans of their phrases."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mdetr.synthetic_clevr.captions import EXTREMES, SceneGrammar, Sentence, descriptions_of
from mdetr.synthetic_clevr.scenes import COLORS, Scene, sample_scene
from mdetr.synthetic_clevr.wordings import RELATIONS

ADJECTIVES = {
    **{word: ("size", "large") for word in ("large", "big")},
    **{word: ("size", "small") for word in ("small", "tiny")},
    **{word: ("material", "rubber") for word in ("rubber", "matte")},
    **{word: ("material", "metal") for word in ("metal", "metallic", "shiny")},
    **{word: ("color", word) for word in COLORS},
    **{word: ("shape", "cube") for word in ("cube", "cubes", "block", "blocks")},
    **{word: ("shape", "sphere") for word in ("sphere", "spheres", "ball", "balls")},
    **{word: ("shape", "cylinder") for word in ("cylinder", "cylinders")},
}
COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(np.random.default_rng([1, seed])) for seed in range(40)]


def _captions(scene: Scene) -> list[Sentence]:
    grammar = SceneGrammar(scene, np.random.default_rng(0))
    return [sentence for _ in range(10) if (sentence := grammar.caption()) is not None]


def _expressions(scene: Scene) -> list[Sentence]:
    grammar = SceneGrammar(scene, np.random.default_rng(0))
    return [sentence for _ in range(10) if (sentence := grammar.referring_expression()) is not None]


def test_every_phrase_is_true_of_its_objects(scenes: list[Scene]) -> None:
    for scene in scenes:
        for sentence in _captions(scene) + _expressions(scene):
            for (start, end), objects in sentence.phrases:
                words = sentence.text[start:end].lower().split()
                values = [ADJECTIVES[word] for word in words if word in ADJECTIVES]
                for index in objects:
                    assert all(getattr(scene.objects[index], name) == value for name, value in values)
                counts = [COUNTS[word] for word in words if word in COUNTS]
                assert not objects or counts in ([], [len(objects)])


def test_a_phrase_without_a_relation_refers_to_all_objects_that_fit(scenes: list[Scene]) -> None:
    relations = tuple(f" {words}" for choices in RELATIONS.values() for words in choices)
    extremes = tuple(f"the {word}" for words in EXTREMES.values() for word in words)
    for scene in scenes:
        for sentence in _captions(scene):
            for (start, end), objects in sentence.phrases:
                phrase = sentence.text[start:end].lower()
                if sentence.text[end:].startswith(relations) or phrase.startswith(extremes):
                    continue
                values = [ADJECTIVES[word] for word in phrase.split() if word in ADJECTIVES]
                fitting = tuple(
                    index
                    for index, thing in enumerate(scene.objects)
                    if all(getattr(thing, name) == value for name, value in values)
                )
                assert objects == fitting


def test_no_object_is_mentioned_by_two_phrases(scenes: list[Scene]) -> None:
    for scene in scenes:
        for sentence in _captions(scene):
            named = [index for _, objects in sentence.phrases for index in objects]
            assert len(named) == len(set(named))


def test_an_expression_denotes_the_object_of_its_first_phrase(scenes: list[Scene]) -> None:
    for scene in scenes:
        for sentence in _expressions(scene):
            assert sentence.phrases[0][1] == (sentence.target,)


def test_right_of_means_further_right_in_the_image(scenes: list[Scene]) -> None:
    count = 0
    for scene in scenes:
        positions = np.array([thing.position for thing in scene.objects])
        columns = scene.camera.project(positions, 240, 160)[:, 0]
        for sentence in _captions(scene):
            for (first, objects), (second, anchors) in zip(
                sentence.phrases, sentence.phrases[1:], strict=False
            ):
                if sentence.text[first[1] : second[0]].strip() in RELATIONS["right"]:
                    count += 1
                    assert all(columns[index] > columns[anchors[0]] for index in objects)
    assert count > 10


def test_phrases_refer_to_no_one_or_several_objects(scenes: list[Scene]) -> None:
    counts = [
        len(objects) for scene in scenes for sentence in _captions(scene) for _, objects in sentence.phrases
    ]
    assert {0, 1, 2, 3} <= set(counts)


def test_texts_have_several_styles(scenes: list[Scene]) -> None:
    """Bare names, lists, requests, capitals, full stops, single phrases and names of absent things."""
    captions = [sentence for scene in scenes for sentence in _captions(scene)]
    texts = [sentence.text for sentence in captions]
    article = re.compile(r"\b(a|an|the|two|three|four|five|all|every)\b", re.IGNORECASE)
    fractions = {
        "capital": np.mean([text[0].isupper() for text in texts]),
        "full stop": np.mean([text.endswith(".") for text in texts]),
        "one phrase": np.mean([len(sentence.phrases) == 1 for sentence in captions]),
        "no article": np.mean([not article.search(text) for text in texts]),
        "request": np.mean([text.lower().startswith(("find ", "show me ", "where ")) for text in texts]),
        "something absent": np.mean([any(not o for _, o in s.phrases) for s in captions]),
        "only something absent": np.mean([all(not o for _, o in s.phrases) for s in captions]),
    }
    assert all(0.02 < fraction < 0.6 for fraction in fractions.values()), fractions
    expressions = [sentence.text for scene in scenes for sentence in _expressions(scene)]
    assert 0.1 < np.mean([not article.search(text) for text in expressions]) < 0.3


def test_verbs_agree_with_their_nouns(scenes: list[Scene]) -> None:
    count = 0
    for scene in scenes:
        for sentence in _captions(scene):
            verb = re.match(r"(?:there|here|where) (is|are) ", sentence.text, re.IGNORECASE)
            if verb:
                count += 1
                (start, end), _ = sentence.phrases[0]
                assert (verb[1] == "are") == sentence.text[start:end].endswith("s"), sentence.text
    assert count > 20


def test_absent_phrases_fit_no_object(scenes: list[Scene]) -> None:
    count = 0
    for scene in scenes:
        for sentence in _captions(scene):
            for (start, end), objects in sentence.phrases:
                if not objects:
                    count += 1
                    words = sentence.text[start:end].lower().split()
                    values = [ADJECTIVES[word] for word in words if word in ADJECTIVES]
                    assert values
                    assert not any(all(getattr(t, n) == v for n, v in values) for t in scene.objects)
    assert count > 20


def test_all_descriptions_of_an_object_fit_it(scenes: list[Scene]) -> None:
    thing = scenes[0].objects[0]
    descriptions = descriptions_of(thing)
    assert len(descriptions) == 15
    assert all(description.fits(thing) for description in descriptions)
