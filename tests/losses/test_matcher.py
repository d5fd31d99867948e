"""The matcher: the published pairs, the edges (no boxes, too many boxes), and one-to-many."""

from __future__ import annotations

import pytest
import torch

from mdetr.errors import TrainingError
from mdetr.losses.matcher import assign, matching_cost
from mdetr.losses.matches import Matches


def pairs(matches: Matches, layer: int, text: int) -> list[tuple[int, int]]:
    """(query, target) pairs of one text in one layer."""
    here = (matches.layer == layer) & (matches.text == text)
    return list(zip(matches.query[here].tolist(), matches.target[here].tolist(), strict=True))


def test_the_pairs_are_the_published_ones(recorded):
    output, targets = recorded.output, recorded.targets
    cost = matching_cost(
        output.logits[None], output.pred_boxes[None], targets["positive_map"].float(), targets["boxes"]
    )
    (matches,) = assign([cost], targets["box_mask"], [1])
    for text, (queries, chosen) in enumerate(recorded.matches):
        assert pairs(matches, 0, text) == list(zip(queries, chosen, strict=True))


def test_all_layers_and_texts_at_once_match_as_each_would_alone(random_batch):
    output, targets = random_batch([3, 1, 5, 0], queries=7)
    layers = [*output.auxiliary_outputs, output]
    logits, boxes = (torch.stack([getattr(x, f) for x in layers]) for f in ("logits", "pred_boxes"))
    positive_map = targets["positive_map"].float()
    cost = matching_cost(logits, boxes, positive_map, targets["boxes"])
    (together,) = assign([cost], targets["box_mask"], [1])
    for layer in range(3):
        for text, count in enumerate([3, 1, 5, 0]):
            alone = matching_cost(
                logits[layer, None, text, None],
                boxes[layer, None, text, None],
                positive_map[text, None, :count],
                targets["boxes"][text, None, :count],
            )
            (matches,) = assign([alone], torch.ones(1, count, dtype=torch.bool), [1])
            assert pairs(together, layer, text) == pairs(matches, 0, 0)


def test_a_text_without_boxes_matches_nothing():
    cost = torch.rand(2, 2, 4, 3)
    (matches,) = assign([cost], torch.tensor([[True, True, True], [False, False, False]]), [1])
    assert matches.text.tolist() == [0] * 6


def test_more_boxes_than_queries_leave_the_costliest_boxes_out():
    cost = torch.tensor([[[[9.0, 1.0, 5.0], [9.0, 5.0, 2.0]]]])  # two queries, three boxes
    (matches,) = assign([cost], torch.ones(1, 3, dtype=torch.bool), [1])
    assert pairs(matches, 0, 0) == [(0, 1), (1, 2)]


def test_one_to_many_gives_each_box_several_queries_and_no_query_two_boxes():
    cost = torch.tensor([[[[0.0, 9.0], [1.0, 9.0], [9.0, 0.0], [9.0, 1.0], [5.0, 5.0]]]])
    (matches,) = assign([cost], torch.ones(1, 2, dtype=torch.bool), [2])
    assert pairs(matches, 0, 0) == [(0, 0), (1, 0), (2, 1), (3, 1)]


def test_padding_is_never_matched_wherever_it_stands_and_whatever_it_costs():
    cost = torch.tensor([[[[-9.0, 1.0, float("nan")], [-9.0, 0.0, float("nan")]]]])
    (matches,) = assign([cost], torch.tensor([[False, True, False]]), [1])
    assert pairs(matches, 0, 0) == [(1, 1)]


@pytest.mark.parametrize("damage", [float("nan"), float("inf"), float("-inf")])
def test_a_cost_that_is_not_finite_says_where_it_was_found(damage):
    cost = torch.rand(3, 2, 4, 2)
    cost[2, 1, 0, 0] = damage
    with pytest.raises(TrainingError, match=r"1 of 6 .* \(first: decoder layer 2, text 1 of the batch\)"):
        assign([cost], torch.ones(2, 2, dtype=torch.bool), [1])


def test_several_cost_tensors_of_different_sizes_are_solved_in_one_go():
    decoder, proposals = torch.rand(2, 1, 3, 2), torch.rand(1, 1, 10, 2)
    box_mask = torch.ones(1, 2, dtype=torch.bool)
    both = assign([decoder, proposals], box_mask, [1, 3])
    assert [len(matches.query) for matches in both] == [4, 6]
    assert both[0].query.equal(assign([decoder], box_mask, [1])[0].query)
    assert both[1].query.equal(assign([proposals], box_mask, [3])[0].query)
