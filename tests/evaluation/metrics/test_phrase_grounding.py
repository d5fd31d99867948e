"""Phrase grounding: which phrases count, how boxes are ranked, and which are correct."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mdetr.data.record import Phrase
from mdetr.data.sources.flickr30k import read_flickr30k
from mdetr.errors import InvalidInputError
from mdetr.evaluation.metrics.phrase_grounding import (
    PhraseGroundingMetric,
    phrase_scores,
    phrases_of,
    rank_for_phrase,
)
from mdetr.model.interface import MdetrOutput
from mdetr.processing.layouts import ImageLayout
from mdetr.processing.tokens import tokenized_texts

OFFICIAL = Path(__file__).parents[2] / "fixtures" / "official"
TEXT = "a red cube left of two blue balls"
CUBE, BALLS = (0, 10), (19, 33)
LEFT, MIDDLE, RIGHT, NOWHERE = (10, 10, 50, 50), (100, 20, 140, 60), (150, 20, 190, 60), (0, 80, 20, 100)


@pytest.fixture
def caption(make_record):
    return make_record(TEXT, boxes=(LEFT, MIDDLE, RIGHT), spans=((CUBE,), (BALLS,), (BALLS,)))


def score(predictions, records, protocol="any_box") -> dict[str, float]:
    metric = PhraseGroundingMetric(protocol)
    metric.update(predictions, records)
    return metric.compute()


def test_recall_is_one_if_the_first_box_of_each_phrase_is_correct(predict, caption):
    output = predict([TEXT], [[(LEFT, "a red cube"), (RIGHT, "two blue balls"), (NOWHERE, None)]])
    assert score(output, [caption]) == {
        "recall@1": 1.0,
        "recall@5": 1.0,
        "recall@10": 1.0,
        "upper_bound": 1.0,
        "num_phrases": 2.0,
        "recall@1/several_boxes": 1.0,
        "recall@5/several_boxes": 1.0,
        "recall@10/several_boxes": 1.0,
        "upper_bound/several_boxes": 1.0,
        "num_phrases/several_boxes": 1.0,
        "box_recall/several_boxes": 0.5,
    }


def test_a_box_of_other_words_ranks_lower_or_never_counts(predict, caption):
    wrong = [(NOWHERE, "a red cube"), (LEFT, "two blue balls"), (NOWHERE, "two blue balls")]
    recall = score(predict([TEXT], [wrong]), [caption])
    assert {name: value for name, value in recall.items() if "several" not in name} == {
        "recall@1": 0.0,
        "recall@5": 0.5,
        "recall@10": 0.5,
        "upper_bound": 0.5,
        "num_phrases": 2.0,
    }
    assert recall["upper_bound/several_boxes"] == recall["box_recall/several_boxes"] == 0.0


def test_as_many_boxes_as_a_phrase_has_count_for_its_box_recall(predict, caption):
    """Of two balls, ANY-BOX asks for one; a third box, or the same box twice, finds no second ball."""
    found = {
        1.0: [(LEFT, "a red cube"), (RIGHT, "two blue balls"), (MIDDLE, "two blue balls")],
        0.5: [(LEFT, "a red cube"), (RIGHT, "two blue balls"), (RIGHT, "two blue balls")],
    }
    for recall, boxes in found.items():
        scores = score(predict([TEXT], [boxes]), [caption])
        assert scores["recall@1/several_boxes"] == 1.0
        assert scores["box_recall/several_boxes"] == recall
    late = [(NOWHERE, "two blue balls"), (RIGHT, "two blue balls"), (MIDDLE, "two blue balls")]
    assert score(predict([TEXT], [late]), [caption])["box_recall/several_boxes"] == 0.5


def test_phrases_of_what_the_image_shows_should_score_higher_than_others(predict, make_record):
    phrases = (Phrase((CUBE,), (0,)), Phrase((BALLS,), ()))
    record = make_record(TEXT, boxes=(LEFT,), spans=((CUBE,),), phrases=phrases)
    of_cube = predict([TEXT], [[(LEFT, "a red cube"), (NOWHERE, None)]])
    of_balls = predict([TEXT], [[(LEFT, "two blue balls"), (NOWHERE, None)]])
    of_both = predict([TEXT], [[(LEFT, TEXT), (NOWHERE, None)]])
    for prediction, area in ((of_cube, 1.0), (of_balls, 0.0), (of_both, 0.5)):
        scores = score(prediction, [record])
        assert scores["presence_auc"] == area
        assert (scores["num_phrases"], scores["num_absent_phrases"]) == (1.0, 1.0)
    shown = make_record(TEXT, boxes=(LEFT,), spans=((CUBE,),), phrases=phrases[:1])
    assert "presence_auc" not in score(of_cube, [shown])


def test_merged_boxes_must_be_enclosed_by_one_box(predict, caption):
    both = (100, 20, 190, 60)
    one_ball = predict([TEXT], [[(LEFT, "a red cube"), (RIGHT, "two blue balls")]])
    all_balls = predict([TEXT], [[(LEFT, "a red cube"), (both, "two blue balls")]])
    assert score(one_ball, [caption], "merged_boxes")["recall@1"] == 0.5
    assert score(all_balls, [caption], "merged_boxes")["recall@1"] == 1.0
    assert score(all_balls, [caption], "any_box")["recall@1"] == 0.5


def test_boxes_with_the_same_spans_are_one_phrase_and_boxes_without_spans_none(make_record):
    record = make_record(TEXT, boxes=(LEFT, MIDDLE, NOWHERE, RIGHT), spans=((CUBE,), (BALLS,), (), (BALLS,)))
    assert phrases_of(record) == (Phrase((CUBE,), (0,)), Phrase((BALLS,), (1, 3)))


def test_annotated_phrases_take_precedence_over_spans_and_need_a_box(make_record):
    phrases = (Phrase((BALLS,), (0, 1)), Phrase((CUBE,), ()))
    record = make_record(TEXT, boxes=(MIDDLE, RIGHT), spans=((CUBE,), (BALLS,)), phrases=phrases)
    assert phrases_of(record) == phrases[:1]


def test_referring_expressions_are_not_scored(predict, make_record):
    record = make_record(TEXT, boxes=(LEFT,), spans=((CUBE,),), is_referred=(True,))
    assert score(predict([TEXT], [[(LEFT, "a red cube")]]), [record]) == {}


def test_texts_of_different_lengths_are_scored_with_their_own_tokens(predict, caption, make_record):
    text = "balls and a cube"
    other = make_record(text, boxes=(RIGHT, LEFT), spans=(((0, 5),), ((10, 16),)))
    output = predict(
        [text, TEXT],
        [[(RIGHT, "balls"), (LEFT, "a cube")], [(MIDDLE, "two blue balls"), (LEFT, "a red cube")]],
    )
    assert score(output, [other, caption])["recall@1"] == 1.0


def test_the_probability_of_a_phrase_is_that_of_its_most_likely_token():
    probabilities = torch.tensor([[0.1, 0.2, 0.0, 0.6], [0.4, 0.0, 0.3, 0.0]])
    assert phrase_scores(probabilities, [(0, 0), (2, 3)]).tolist() == pytest.approx([0.6, 0.4])
    assert phrase_scores(probabilities, []).tolist() == [0.0, 0.0]


def test_boxes_of_recorded_outputs_are_ranked_as_by_the_released_program(processor):
    arrays = {k: torch.from_numpy(v) for k, v in np.load(OFFICIAL / "forward" / "pretrain_r101.npz").items()}
    inputs = json.loads((OFFICIAL / "inputs.json").read_text())
    texts, sizes = inputs["captions"], [(480, 640), (300, 225), (400, 500)]
    layouts = [ImageLayout(size, size, size) for size in sizes]
    tokenized = tokenized_texts(processor.tokenize(texts).encodings, texts)
    output = MdetrOutput(logits=arrays["pred_logits"], pred_boxes=arrays["pred_boxes"])
    predictions = processor.post_process_predictions(output, tokenized, layouts)
    phrases = [(row, spans) for row, target in enumerate(inputs["targets"]) for spans in target["spans"]]
    for best, (row, spans) in zip(arrays["flickr_top10"], phrases, strict=True):
        ranked = torch.from_numpy(rank_for_phrase(predictions[row], spans).boxes_xyxy)
        torch.testing.assert_close(ranked[:10], best, atol=1e-3, rtol=0)


@pytest.mark.parametrize("protocol", ["any_box", "merged_boxes"])
def test_scores_on_flickr30k_entities_are_those_of_the_released_program(protocol):
    fixtures = Path(__file__).parents[2] / "fixtures"
    expected = json.loads((fixtures / "tasks" / "flickr30k_by_type.json").read_text())[protocol]
    recorded = iter(np.load(fixtures / "tasks" / "flickr30k.npz")[protocol])
    metric = PhraseGroundingMetric(protocol)
    for record in read_flickr30k(fixtures / "sources" / "flickr30k", "test"):
        metric.score_phrases(record, [torch.from_numpy(next(recorded)) for _ in phrases_of(record)])
    assert next(recorded, None) is None
    scores = metric.compute()
    assert scores.pop("num_phrases") == len(np.load(fixtures / "tasks" / "flickr30k.npz")[protocol])
    several = {name: scores.pop(name) for name in list(scores) if name.endswith("/several_boxes")}
    assert len(several) == 6
    assert len(scores) == 4 * 8
    for figure, values in expected.items():
        for kind, value in values.items():
            name = figure if kind == "all" else f"{figure}/{kind}"
            assert scores[name] == pytest.approx(value, abs=1e-6), name


def test_an_unknown_protocol_is_refused():
    with pytest.raises(InvalidInputError, match="any_box, merged_boxes"):
        PhraseGroundingMetric("some_box")


def test_a_batch_with_the_records_of_another_batch_is_refused(predict, caption):
    output = predict([TEXT], [[(LEFT, "a red cube")]])
    with pytest.raises(InvalidInputError, match="each of 2 records, got 1"):
        score(output, [caption, caption])
