"""Phrase grounding: which phrases count, how boxes are ranked, what is right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mdetr.data.record import Phrase
from mdetr.data.sources.flickr30k import read_flickr30k
from mdetr.errors import InvalidInputError
from mdetr.evaluation.metrics.phrase_grounding import PhraseGroundingMetric, phrase_scores, phrases_of
from mdetr.evaluation.metrics.predictions import predictions_of
from mdetr.model.interface import MdetrOutput
from mdetr.processing.targets import token_ranges

OFFICIAL = Path(__file__).parents[2] / "fixtures" / "official"
TEXT = "a red cube left of two blue balls"
CUBE, BALLS = (0, 10), (19, 33)
LEFT, MIDDLE, RIGHT, NOWHERE = (10, 10, 50, 50), (100, 20, 140, 60), (150, 20, 190, 60), (0, 80, 20, 100)


@pytest.fixture
def caption(make_record):
    return make_record(TEXT, boxes=(LEFT, MIDDLE, RIGHT), spans=((CUBE,), (BALLS,), (BALLS,)))


def score(processor, output, records, protocol="any_box") -> dict[str, float]:
    metric = PhraseGroundingMetric(processor, protocol)
    metric.update(output, records)
    return metric.compute()


def test_every_phrase_found_first_gives_recall_one(processor, say, caption):
    output = say([TEXT], [[(LEFT, "a red cube"), (RIGHT, "two blue balls"), (NOWHERE, None)]])
    assert score(processor, output, [caption]) == {
        "recall@1": 1.0,
        "recall@5": 1.0,
        "recall@10": 1.0,
        "upper_bound": 1.0,
        "num_phrases": 2.0,
    }


def test_a_box_tied_to_other_words_is_found_later_or_never(processor, say, caption):
    wrong = [(NOWHERE, "a red cube"), (LEFT, "two blue balls"), (NOWHERE, "two blue balls")]
    recall = score(processor, say([TEXT], [wrong]), [caption])
    assert recall == {
        "recall@1": 0.0,
        "recall@5": 0.5,
        "recall@10": 0.5,
        "upper_bound": 0.5,
        "num_phrases": 2.0,
    }


def test_merged_boxes_want_the_box_that_encloses_all(processor, say, caption):
    both = (100, 20, 190, 60)
    one_ball = say([TEXT], [[(LEFT, "a red cube"), (RIGHT, "two blue balls")]])
    all_balls = say([TEXT], [[(LEFT, "a red cube"), (both, "two blue balls")]])
    assert score(processor, one_ball, [caption], "merged_boxes")["recall@1"] == 0.5
    assert score(processor, all_balls, [caption], "merged_boxes")["recall@1"] == 1.0
    assert score(processor, all_balls, [caption], "any_box")["recall@1"] == 0.5


def test_boxes_with_the_same_spans_are_one_phrase_and_boxes_without_spans_none(make_record):
    record = make_record(TEXT, boxes=(LEFT, MIDDLE, NOWHERE, RIGHT), spans=((CUBE,), (BALLS,), (), (BALLS,)))
    assert phrases_of(record) == (Phrase((CUBE,), (0,)), Phrase((BALLS,), (1, 3)))


def test_phrases_that_evaluation_asks_about_come_before_spans_and_need_a_box(make_record):
    asked = (Phrase((BALLS,), (0, 1)), Phrase((CUBE,), ()))
    record = make_record(TEXT, boxes=(MIDDLE, RIGHT), spans=((CUBE,), (BALLS,)), phrases=asked)
    assert phrases_of(record) == asked[:1]


def test_referring_expressions_are_not_scored(processor, say, make_record):
    record = make_record(TEXT, boxes=(LEFT,), spans=((CUBE,),), is_referred=(True,))
    assert score(processor, say([TEXT], [[(LEFT, "a red cube")]]), [record]) == {}


def test_texts_of_different_lengths_are_scored_each_with_its_own_tokens(processor, say, caption, make_record):
    text = "balls and a cube"
    other = make_record(text, boxes=(RIGHT, LEFT), spans=(((0, 5),), ((10, 16),)))
    output = say(
        [text, TEXT],
        [[(RIGHT, "balls"), (LEFT, "a cube")], [(MIDDLE, "two blue balls"), (LEFT, "a red cube")]],
    )
    assert score(processor, output, [other, caption])["recall@1"] == 1.0


def test_a_phrase_is_as_likely_as_its_likeliest_token():
    probabilities = torch.tensor([[0.1, 0.2, 0.0, 0.6], [0.4, 0.0, 0.3, 0.0]])
    assert phrase_scores(probabilities, [(0, 0), (2, 3)]).tolist() == pytest.approx([0.6, 0.4])
    assert phrase_scores(probabilities, []).tolist() == [0.0, 0.0]


def test_boxes_of_recorded_outputs_are_ranked_as_the_published_program_ranks_them(processor, make_record):
    arrays = {k: torch.from_numpy(v) for k, v in np.load(OFFICIAL / "forward" / "pretrain_r101.npz").items()}
    inputs = json.loads((OFFICIAL / "inputs.json").read_text())
    texts, sizes = inputs["captions"], [(640, 480), (225, 300), (500, 400)]
    records = [make_record(text, width=w, height=h) for text, (w, h) in zip(texts, sizes, strict=True)]
    output = MdetrOutput(logits=arrays["pred_logits"], pred_boxes=arrays["pred_boxes"])
    found, encoding = predictions_of(output, records), processor.tokenize(texts)
    phrases = [(row, spans) for row, target in enumerate(inputs["targets"]) for spans in target["spans"]]
    for best, (row, spans) in zip(arrays["flickr_top10"], phrases, strict=True):
        scores = phrase_scores(found[row].token_probabilities, token_ranges(encoding, row, spans))
        ranked = found[row].boxes[scores.argsort(descending=True)]
        torch.testing.assert_close(ranked[:10], best, atol=1e-3, rtol=0)


@pytest.mark.parametrize("protocol", ["any_box", "merged_boxes"])
def test_flickr30k_entities_score_as_the_released_program_says_in_all_and_per_type(processor, protocol):
    fixtures = Path(__file__).parents[2] / "fixtures"
    expected = json.loads((fixtures / "tasks" / "flickr30k_by_type.json").read_text())[protocol]
    recorded = iter(np.load(fixtures / "tasks" / "flickr30k.npz")[protocol])
    metric = PhraseGroundingMetric(processor, protocol)
    for record in read_flickr30k(fixtures / "sources" / "flickr30k", "test"):
        metric.score_phrases(record, [torch.from_numpy(next(recorded)) for _ in phrases_of(record)])
    assert next(recorded, None) is None
    found = metric.compute()
    assert found.pop("num_phrases") == len(np.load(fixtures / "tasks" / "flickr30k.npz")[protocol])
    assert len(found) == 4 * 8
    for figure, values in expected.items():
        for kind, value in values.items():
            name = figure if kind == "all" else f"{figure}/{kind}"
            assert found[name] == pytest.approx(value, abs=1e-6), name


def test_an_unknown_protocol_is_refused(processor):
    with pytest.raises(InvalidInputError, match="any_box, merged_boxes"):
        PhraseGroundingMetric(processor, "some_box")


def test_a_batch_scored_with_another_batchs_records_is_refused(processor, say, caption):
    output = say([TEXT], [[(LEFT, "a red cube")]])
    with pytest.raises(InvalidInputError, match="for 2 records, found it for 1 texts"):
        score(processor, output, [caption, caption])
