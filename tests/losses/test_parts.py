"""The parts of the losses on numbers a person can check."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import box_convert, box_iou, generalized_box_iou

from mdetr.losses.alignment import alignment_loss
from mdetr.losses.boxes import box_losses, generalized_iou, matched_iou
from mdetr.losses.matches import Matches
from mdetr.losses.referred import referred_loss
from mdetr.losses.soft_tokens import cardinality_error, soft_token_loss, token_targets


def one_pair(query: int = 0, target: int = 0) -> Matches:
    return Matches(*(torch.tensor([i]) for i in (0, 0, query, target)))


def test_binary_targets_give_every_token_one_and_uniform_targets_share_one_out():
    positive_map = torch.tensor([[[True, True, False, False]]])
    assert token_targets(positive_map, "binary").tolist() == [[[1, 1, 0, 0]]]
    assert token_targets(positive_map, "uniform")[0, 0].tolist() == pytest.approx([0.5, 0.5, 0, 0], abs=1e-6)


def test_soft_tokens_of_flat_logits_lose_log_four_for_each_token_and_a_tenth_of_it_for_no_object():
    logits = torch.zeros(1, 1, 3, 4)
    targets = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    loss = soft_token_loss(logits, targets, one_pair(), eos_coefficient=0.1)
    assert loss.tolist() == pytest.approx([math.log(4) * (2 + 2 * 0.1)])


def test_a_match_of_lower_quality_gives_a_part_of_its_target_to_no_object():
    logits = torch.randn(1, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    log_probabilities = logits[0, 0].log_softmax(-1)
    others = 0.1 * log_probabilities[1:, -1].sum()
    for quality in (1.0, 0.3, 0.0):
        loss = soft_token_loss(logits, targets, one_pair(), 0.1, torch.tensor([quality]))
        matched = quality * log_probabilities[0, 0] + (1 - quality) * log_probabilities[0, -1]
        torch.testing.assert_close(loss, -(matched + others)[None])
    whole = soft_token_loss(logits, targets, one_pair(), 0.1, torch.tensor([1.0]))
    assert torch.equal(whole, soft_token_loss(logits, targets, one_pair(), 0.1))


def test_denoising_queries_with_little_noise_match_the_boxes_they_start_from():
    box_mask = torch.tensor([[True, True, True], [True, False, False]])
    matches = Matches.of_denoising(box_mask, num_layers=2, groups=2)
    pairs = [
        (layer, text, group * 6 + box, box)
        for layer in range(2)
        for text, count in enumerate((3, 1))
        for group in range(2)
        for box in range(count)
    ]
    assert torch.stack(list(vars(matches).values()), dim=1).tolist() == [list(pair) for pair in pairs]


def test_cardinality_counts_queries_that_speak_of_an_object():
    logits = torch.zeros(1, 2, 3, 4)
    logits[..., -1] = 1.0
    logits[0, 0, :2, 0] = 2.0  # text 0: two objects said, one true; text 1: none said, two true
    box_mask = torch.tensor([[True, False], [True, True]])
    assert cardinality_error(logits, box_mask).tolist() == [1.5]


def test_generalized_iou_is_torchvisions_for_all_pairs():
    corner = torch.rand(6, 2)
    boxes = torch.cat([corner, corner + torch.rand(6, 2)], -1)
    ours = generalized_iou(boxes[:, None], boxes[None])
    torch.testing.assert_close(ours, generalized_box_iou(boxes, boxes))


def test_generalized_iou_of_boxes_without_area_is_a_number_with_a_gradient():
    point = torch.full((1, 4), 0.5, requires_grad=True)
    value = generalized_iou(point, torch.full((1, 4), 0.5))
    value.sum().backward()
    assert value.isfinite().all()
    assert point.grad.isfinite().all()


def test_box_losses_of_a_box_half_covered():
    predicted = torch.tensor([[[[0.5, 0.5, 1.0, 1.0]]]])
    true = torch.tensor([[[0.25, 0.5, 0.5, 1.0]]])  # the left half
    l1, giou = box_losses(predicted, true, one_pair())
    assert l1.tolist() == pytest.approx([0.75])
    assert giou.tolist() == pytest.approx([0.5])


def test_alignment_of_a_query_that_is_its_only_token_loses_what_the_others_leave():
    tokens = torch.eye(3)[None]
    queries = torch.eye(3)[None, None, :2]
    alignment_map = torch.tensor([[[True, False, False]]])
    loss = alignment_loss(queries, tokens, alignment_map, one_pair(), temperature=1.0)
    to_tokens = math.log(math.e + 2) - 1
    to_queries = math.log(math.e + 1) - 1
    assert loss.tolist() == pytest.approx([(to_tokens + to_queries) / 2], abs=1e-5)


def test_alignment_leaves_out_boxes_without_tokens():
    queries, tokens = torch.rand(1, 1, 2, 4), torch.rand(1, 3, 4)
    loss = alignment_loss(queries, tokens, torch.zeros(1, 1, 3, dtype=torch.bool), one_pair(), 0.07)
    assert loss.tolist() == [0.0]


def test_referred_loss_asks_only_texts_that_say_what_they_denote():
    logits = torch.zeros(1, 2, 1)
    matches = Matches(*(torch.tensor(i) for i in ([0, 0], [0, 1], [0, 0], [0, 0])))
    is_referred = torch.tensor([[1.0], [0.0]])
    loss, accuracy = referred_loss(logits, is_referred, torch.tensor([True, False]), matches)
    assert loss.tolist() == pytest.approx([math.log(2)])
    assert accuracy.tolist() == [0.0]  # probability 0.5 is not above it


def test_iou_of_matched_boxes_is_that_of_torchvision_without_gradient():
    generator = torch.Generator().manual_seed(0)
    predicted = torch.rand(2, 1, 4, 4, generator=generator).mul(0.3).add(0.2).requires_grad_()
    boxes = torch.rand(1, 3, 4, generator=generator) * 0.3 + 0.2
    matches = Matches(*(torch.tensor(part) for part in ([0, 0, 1], [0, 0, 0], [1, 3, 2], [0, 2, 1])))
    iou = matched_iou(predicted, boxes, matches)
    assert not iou.requires_grad
    pairs = [
        (predicted[layer, 0, query], boxes[0, box]) for layer, query, box in ((0, 1, 0), (0, 3, 2), (1, 2, 1))
    ]
    expected = [box_iou(*(box_convert(box[None], "cxcywh", "xyxy") for box in pair)) for pair in pairs]
    torch.testing.assert_close(iou, torch.cat(expected).flatten().detach())


def test_iou_of_matched_boxes_without_area_is_zero():
    assert matched_iou(torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 4), one_pair()).tolist() == [0.0]
