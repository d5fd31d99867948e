"""Queries of the decoder, and the extra queries that only training has."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mdetr.model.queries import DenoisingQueries, Queries, query_mask
from mdetr.modeling import MdetrForObjectDetection
from tests.model.models import OPTIONS, small_config, small_inputs, small_model

REFERENCES: dict[str, Any] = OPTIONS | {"predict_masks": False, "dropout": 0.0}
EXTRA: dict[str, Any] = {"denoising_groups": 2, "one_to_many_queries": 9}
LEARNED_REFERENCES = {"proposals": False}


def targets() -> dict[str, torch.Tensor]:
    """Two texts, with three boxes and two."""
    centers = torch.tensor([[0.9, 0.2], [0.3, 0.7], [0.5, 0.5]]).repeat(2, 1, 1)
    box_mask = torch.tensor([[True, True, True], [True, True, False]])
    tokens = torch.zeros(2, 3, 256, dtype=torch.bool).index_fill(2, torch.tensor([1]), True)
    return {
        "boxes": torch.cat((centers, torch.full_like(centers, 0.2)), dim=-1) * box_mask[..., None],
        "box_mask": box_mask,
        "positive_map": tokens & box_mask[..., None],
        "alignment_map": tokens[..., :5] & box_mask[..., None],
    }


def with_weights_of(model: MdetrForObjectDetection, **changes: Any) -> MdetrForObjectDetection:
    """A model with other options and, where it has the same weights, those of `model`."""
    other = MdetrForObjectDetection(small_config(**REFERENCES | changes))
    weights = other.state_dict()
    for name, value in model.state_dict().items():
        weights[name][: len(value)] = value
    other.load_state_dict(weights)
    return other


def part(count: int, num_groups: int = 1) -> Queries:
    return Queries(torch.zeros(2, count, 4), None, torch.zeros(2, count, 4), num_groups)


def test_a_single_group_needs_no_mask():
    assert query_mask([part(3)], num_answers=2) is None


def test_each_group_sees_itself_alone_and_answers_see_the_first():
    mask = query_mask([part(2), part(1), part(4, num_groups=2)], num_answers=1)
    group = torch.tensor([0, 0, 1, 2, 2, 3, 3, 0])
    assert torch.equal(mask, group[:, None] != group)


@pytest.mark.parametrize("start", [{}, LEARNED_REFERENCES], ids=["proposals", "learned"])
def test_extra_queries_of_the_training_change_no_prediction(start: dict):
    plain = small_model(**REFERENCES | start).train()
    extended = with_weights_of(plain, **EXTRA, **start).train()
    for model in (plain, extended):
        model.text_encoder.eval()  # without dropout
    expected, output = (model(**small_inputs(), targets=targets()) for model in (plain, extended))
    assert output.one_to_many.logits.shape == (2, 9, 256)
    assert output.denoising.pred_boxes.shape == (2, 2 * 2 * 3, 4)
    assert len(output.denoising.auxiliary_outputs) == 2
    for name in ("logits", "pred_boxes", "referred_logits"):
        torch.testing.assert_close(output[name], expected[name])
    torch.testing.assert_close(output.answer_logits, expected.answer_logits)


def test_extra_queries_exist_in_training_alone():
    model = small_model(**REFERENCES | EXTRA)
    with torch.no_grad():
        evaluated = model(**small_inputs(), targets=targets())
    assert evaluated.one_to_many is evaluated.denoising is None
    assert evaluated.logits.shape == (2, 7, 256)
    assert not [name for name in evaluated.losses if "denoising" in name or "many" in name]
    without_targets = model.train()(**small_inputs())
    assert without_targets.denoising is None


def test_every_weight_learns_from_the_extra_queries():
    model = small_model(**REFERENCES | EXTRA).train()
    output = model(**small_inputs(), targets=targets())
    output.loss.backward()
    assert model.denoising_queries.content.weight.grad.abs().sum() > 0
    assert (model.queries.content.weight.grad.abs().sum(-1) > 0).all()  # of the usual and the extra ones


def test_a_text_without_boxes_has_no_denoising_queries():
    empty = {name: value[:, :0] for name, value in targets().items()}
    output = small_model(**REFERENCES | EXTRA).train()(**small_inputs(), targets=empty)
    assert output.denoising.pred_boxes.shape == (2, 0, 4)
    assert output.losses["loss_bbox_denoising"] == 0
    output.loss.backward()


def test_boxes_with_little_noise_stay_near_and_those_with_much_leave_the_object():
    torch.manual_seed(0)
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.1]]]).expand(50, 1, 4)
    queries = DenoisingQueries(small_config(query_type="reference", denoising_groups=20))
    content, _, references, num_groups = queries({"boxes": boxes})
    assert content.shape == (50, 40, 32)
    assert num_groups == 20
    little, much = references.detach().unflatten(1, (20, 2, 1)).unbind(2)
    half = boxes[0, 0, 2:] / 2
    little_shift, much_shift = (((noisy[..., :2] - 0.5) / half).abs() for noisy in (little, much))
    assert 0.35 < little_shift.max() <= 0.4 + 1e-5
    assert 1 - 1e-5 <= much_shift.min() < 1.05
    assert 1.95 < much_shift.max() <= 2 + 1e-5
    for noisy in (little, much):
        ratio = noisy[..., 2:] / boxes[0, 0, 2:]
        assert ratio.min() >= 0.6 - 1e-5
        assert ratio.max() <= 1.4 + 1e-5


def test_noise_leaves_boxes_inside_the_image():
    corner = torch.tensor([[[0.98, 0.02, 0.3, 0.3]]])
    references = DenoisingQueries(small_config(query_type="reference", denoising_groups=50))(
        {"boxes": corner}
    ).references
    assert ((references >= 0) & (references <= 1)).all()


def test_learned_content_does_not_read_the_memory():
    model = small_model(**REFERENCES, proposal_content="learned")
    assert "queries.from_memory.weight" not in model.state_dict()
    memory = torch.randn(2, 48, 32)
    with torch.no_grad():
        proposals = model(**small_inputs()).proposals
        (queries,) = model.queries(memory, proposals)
    assert torch.equal(queries.content, model.queries.content.weight.expand(2, -1, -1))


def test_looking_forward_twice_trains_the_layer_before_with_the_same_boxes():
    boxes, trained = [], []
    for twice in (False, True):
        model = small_model(**REFERENCES, look_forward_twice=twice).train()
        model.text_encoder.eval()  # without dropout
        torch.nn.init.normal_(model.box_head.layers[-1].weight, std=0.1)

        # Keep what the box head adds to the reference boxes in each layer, the first time that it is called
        shifts: dict[int, torch.Tensor] = {}

        def keep(_: torch.nn.Module, inputs: tuple, shift: torch.Tensor, shifts: dict = shifts) -> None:
            shift.retain_grad()
            shifts[len(shifts)] = shift

        model.box_head.layers[-1].register_forward_hook(keep)
        output = model(**small_inputs())
        output.pred_boxes.sum().backward()
        boxes.append(output.pred_boxes.detach())
        trained.append([shift.grad is not None for shift in shifts.values()])
    torch.testing.assert_close(*boxes)
    assert trained[0] == [False, False, True]
    assert trained[1] == [False, True, False, False, True]  # from the second layer on, the head runs twice
