"""The criterion against the published program's numbers and against plain loops over texts and boxes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import multiprocessing
from torch.nn.functional import binary_cross_entropy

from mdetr.errors import InvalidInputError, TrainingError
from mdetr.losses.criterion import compute_loss, count_boxes
from mdetr.model.config import MdetrConfig
from mdetr.model.interface import MdetrOutput


@pytest.mark.parametrize("token_targets", ["binary", "uniform"])
def test_losses_of_the_last_layer_are_the_published_ones(recorded, token_targets):
    config = MdetrConfig(token_targets=token_targets)
    _, losses = compute_loss(recorded.output, recorded.targets, config)
    expected = recorded.losses[token_targets]
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=4e-5), name


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("token_targets", ["binary", "uniform"])
def test_every_layer_has_the_losses_that_loops_over_texts_and_boxes_give(random_batch, seed, token_targets):
    output, targets = random_batch([2, 0, 3], queries=5, seed=seed)
    config = MdetrConfig(token_targets=token_targets)
    _, losses = compute_loss(output, targets, config)
    layers = {"_0": output.auxiliary_outputs[0], "_1": output.auxiliary_outputs[1], "": output}
    expected = {
        name + suffix: value
        for suffix, layer in layers.items()
        for name, value in losses_by_loops(layer, output.token_embeddings, targets, config).items()
    }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_the_loss_is_the_weighted_sum_over_all_layers(random_batch):
    output, targets = random_batch([2, 1])
    config = MdetrConfig(
        class_loss_coefficient=3.0,
        bbox_loss_coefficient=7.0,
        giou_loss_coefficient=11.0,
        alignment_loss_coefficient=13.0,
        referred_loss_coefficient=17.0,
    )
    weights = {
        "loss_ce": 3.0,
        "loss_bbox": 7.0,
        "loss_giou": 11.0,
        "loss_contrastive_align": 13.0,
        "loss_isfinal": 17.0,
    }
    loss, losses = compute_loss(output, targets, config)
    expected = sum(weights[n] * losses[n + s] for n in weights for s in ("_0", "_1", ""))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradients_reach_every_prediction_of_every_layer(random_batch):
    output, targets = random_batch([2, 1], proposals=9)
    layers = [*output.auxiliary_outputs, output]
    predictions = [
        getattr(layer, field)
        for layer in layers
        for field in ("logits", "pred_boxes", "query_embeddings", "referred_logits")
    ]
    predictions += [output.token_embeddings, output.proposals.logits, output.proposals.pred_boxes]
    for tensor in predictions:
        tensor.requires_grad_()
    loss, losses = compute_loss(output, targets, MdetrConfig())
    loss.backward()
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in predictions)
    assert not any(value.requires_grad for value in losses.values())


def test_a_batch_without_any_box_learns_only_that_there_is_none(random_batch):
    output, targets = random_batch([0, 0])
    output.referred_logits.requires_grad_()
    loss, losses = compute_loss(output, targets, MdetrConfig())
    loss.backward()
    no_object = -output.logits.log_softmax(-1)[..., -1].sum() * 0.1
    assert losses["loss_ce"].item() == pytest.approx(no_object.item(), rel=1e-5)
    assert losses["loss_bbox"] == losses["loss_giou"] == losses["loss_contrastive_align"] == 0
    assert losses["loss_isfinal"] == 0
    assert output.referred_logits.grad is not None  # every parameter takes part in every step


def test_targets_that_do_not_say_what_is_referred_to_leave_that_loss_at_zero(random_batch):
    output, targets = random_batch([2, 3])
    del targets["is_referred"], targets["referred_mask"]
    output.referred_logits.requires_grad_()
    loss, losses = compute_loss(output, targets, MdetrConfig())
    loss.backward()
    assert losses["loss_isfinal"] == 0
    assert losses["accuracy_isfinal"] == 1
    assert output.referred_logits.grad.abs().sum() == 0


def test_a_model_without_alignment_and_referred_heads_has_the_detection_losses_alone(random_batch):
    output, targets = random_batch([2, 3], layers=1)
    bare = MdetrOutput(logits=output.logits, pred_boxes=output.pred_boxes)
    _, losses = compute_loss(bare, targets, MdetrConfig())
    assert losses.keys() == {"loss_ce", "loss_bbox", "loss_giou", "cardinality_error"}


def test_proposals_with_one_query_a_box_lose_what_a_decoder_layer_would(random_batch):
    output, targets = random_batch([2, 3])
    layer = output.auxiliary_outputs[0]
    output.proposals = MdetrOutput(logits=layer.logits, pred_boxes=layer.pred_boxes)
    loss, losses = compute_loss(output, targets, MdetrConfig(proposal_targets_per_box=1))
    for name in ("loss_ce", "loss_bbox", "loss_giou"):
        assert losses[f"{name}_proposals"] == losses[f"{name}_0"]
    output.proposals = None
    without, _ = compute_loss(output, targets, MdetrConfig())
    extra = losses["loss_ce_0"] + 5 * losses["loss_bbox_0"] + 2 * losses["loss_giou_0"]
    assert (loss - without).item() == pytest.approx(extra.item(), rel=1e-4)


def test_proposals_share_a_box_among_as_many_queries_as_the_config_says(random_batch):
    output, targets = random_batch([1, 2], proposals=9)
    exact = targets["boxes"][0, 0]
    output.proposals.pred_boxes[0, :3] = exact  # three perfect proposals, of which all are wanted
    output.proposals.pred_boxes[1] = targets["boxes"][1, :2].repeat(5, 1)[:9]
    _, losses = compute_loss(output, targets, MdetrConfig(proposal_targets_per_box=3, class_cost=0.0))
    assert losses["loss_bbox_proposals"].item() == pytest.approx(0.0, abs=1e-6)
    _, losses = compute_loss(output, targets, MdetrConfig(proposal_targets_per_box=4, class_cost=0.0))
    fourth = (output.proposals.pred_boxes[0, 3:] - exact).abs().sum(-1)
    assert losses["loss_bbox_proposals"].item() >= fourth.min().item() / (4 * 3) - 1e-6  # 4 a box, 3 boxes


def test_extra_queries_share_a_box_among_as_many_as_the_config_says_in_every_layer(random_batch):
    output, targets = random_batch([1, 2])
    output.one_to_many, _ = random_batch([1, 2], queries=9, layers=2, seed=1)
    earlier, last = output.one_to_many.auxiliary_outputs[0], output.one_to_many
    for layer in (earlier, last):
        layer.pred_boxes[0, :3] = targets["boxes"][0, 0]
        layer.pred_boxes[1] = targets["boxes"][1, :2].repeat(5, 1)[:9]
    three = MdetrConfig(query_type="reference", one_to_many_targets_per_box=3, class_cost=0.0)
    _, losses = compute_loss(output, targets, three)
    assert losses["loss_bbox_one_to_many_0"].item() == pytest.approx(0.0, abs=1e-6)
    assert losses["loss_bbox_one_to_many"].item() == pytest.approx(0.0, abs=1e-6)
    output.one_to_many = None
    _, without = compute_loss(output, targets, three)
    assert {name: losses[name] for name in without} == without


def test_denoising_queries_restore_the_boxes_they_start_from_and_reject_the_others(random_batch):
    output, targets = random_batch([2, 1], layers=1)
    logits = torch.full((2, 2 * 2 * 2, 256), -20.0)  # two groups of two boxes with little noise and with much
    boxes = torch.full((2, 8, 4), 0.9)
    with_little_noise = torch.tensor([True, True, False, False] * 2)
    boxes[:, with_little_noise] = targets["boxes"].repeat(1, 2, 1)
    words = targets["positive_map"].float() / targets["positive_map"].sum(-1, keepdim=True).clamp(min=1)
    logits[:, with_little_noise] = words.clamp(min=1e-9).log().repeat(1, 2, 1)
    logits[:, ~with_little_noise, -1] = 20.0
    logits[1, [1, 5], -1] = 20.0  # padding: the second text has one box
    output.denoising = MdetrOutput(logits=logits, pred_boxes=boxes)
    config = MdetrConfig(query_type="reference", denoising_groups=2, token_targets="uniform")
    loss, losses = compute_loss(output, targets, config)
    assert losses["loss_bbox_denoising"].item() == pytest.approx(0.0, abs=1e-6)
    assert losses["loss_giou_denoising"].item() == pytest.approx(0.0, abs=1e-5)
    entropy = -(words * words.clamp(min=1e-9).log()).sum(-1)[targets["box_mask"]].mean()
    assert losses["loss_ce_denoising"].item() == pytest.approx(entropy.item(), abs=1e-3)
    output.denoising = None
    without, _ = compute_loss(output, targets, config)
    assert (loss - without).item() == pytest.approx(entropy.item(), abs=1e-3)


def test_iou_aware_tokens_make_a_certain_match_with_a_poor_box_expensive(random_batch):
    output, targets = random_batch([1], layers=1)
    output.logits[:] = -20.0
    output.logits[..., -1] = 20.0
    output.logits[0, 0] = targets["positive_map"][0, 0].float() * 40 - 20  # certain of the words
    plain, aware = (
        MdetrConfig(token_targets="uniform"),
        MdetrConfig(token_targets="uniform", iou_aware_tokens=True),
    )

    def loss_ce(config: MdetrConfig) -> float:
        return compute_loss(output, targets, config)[1]["loss_ce"].item()

    output.pred_boxes[0, 0] = targets["boxes"][0, 0]
    assert loss_ce(aware) == pytest.approx(loss_ce(plain), abs=1e-4)
    x, y, width, height = targets["boxes"][0, 0].tolist()
    output.pred_boxes[0, 0] = torch.tensor([x, y, width, height / 2])  # an IoU of a half
    certain_of_no_object = 40 + math.log(targets["positive_map"].sum().item())
    assert loss_ce(plain) < 10
    assert loss_ce(aware) - loss_ce(plain) / 2 == pytest.approx(certain_of_no_object / 2, abs=1e-2)


def test_a_proposal_on_padding_is_never_the_match_of_a_box(random_batch):
    output, targets = random_batch([1, 2], proposals=9)
    boxes = output.proposals.pred_boxes
    targets["boxes"][0, 0] = torch.tensor([0.97, 0.96, 0.06, 0.08])  # at the bottom right corner
    boxes[0, 0] = targets["boxes"][0, 0] - torch.tensor([0.1, 0.0, 0.0, 0.0])
    boxes[0, 1] = targets["boxes"][0, 0]  # a perfect box, but on padding
    boxes[0, 2:] = torch.tensor([0.2, 0.2, 0.1, 0.1])
    boxes[1, :2] = targets["boxes"][1, :2]
    padding = torch.zeros(2, 9, dtype=torch.bool)
    config = MdetrConfig(proposal_targets_per_box=1, class_cost=0.0)
    _, without = compute_loss(output, targets, config)
    assert without["loss_bbox_proposals"].item() == pytest.approx(0.0, abs=1e-6)
    padding[0, 1] = True
    output.proposals.query_padding = padding
    _, losses = compute_loss(output, targets, config)
    assert losses["loss_bbox_proposals"].item() == pytest.approx(0.1 / 3, rel=1e-4)  # of three boxes


def test_boxes_beyond_the_proposals_inside_the_image_stay_without_one(random_batch):
    output, targets = random_batch([2, 1], proposals=9)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[0, 3:] = True  # three proposals for two boxes that want five each
    output.proposals.logits[padding] = torch.zeros(256).index_fill(0, torch.tensor([255]), 1e4)
    output.proposals.query_padding = padding
    output.proposals.pred_boxes.requires_grad_()
    loss, losses = compute_loss(output, targets, MdetrConfig(proposal_targets_per_box=5))
    assert losses["loss_ce_proposals"] < 100  # a certain nothing would lose 1e4 for each match
    loss.backward()
    moved = output.proposals.pred_boxes.grad.abs().sum(-1) > 0
    assert moved[0].tolist() == [True] * 3 + [False] * 6
    assert moved[1].sum() == 5


def test_half_precision_outputs_lose_about_the_same_under_autocast(random_batch):
    output, targets = random_batch([2, 3], layers=1)
    expected, _ = compute_loss(output, targets, MdetrConfig())
    half = MdetrOutput(**{k: v.bfloat16() for k, v in output.items() if isinstance(v, torch.Tensor)})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = compute_loss(half, targets, MdetrConfig())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)


def test_predictions_that_are_not_numbers_stop_training_with_a_sentence(random_batch):
    output, targets = random_batch([2, 3])
    output.auxiliary_outputs[1].logits[1, 4] = float("nan")
    with pytest.raises(TrainingError, match="decoder layer 1, text 1"):
        compute_loss(output, targets, MdetrConfig())


def test_targets_for_another_number_of_token_positions_are_refused(random_batch):
    output, targets = random_batch([2, 3], layers=1)
    targets["positive_map"] = targets["positive_map"][..., :64]
    with pytest.raises(InvalidInputError, match="256 token positions, got 64"):
        compute_loss(output, targets, MdetrConfig())


def test_the_normalizer_is_the_mean_number_of_boxes_of_all_processes(tmp_path):
    # Forked, since starting afresh would import everything again; the work is too small for threads.
    multiprocessing.start_processes(_check_count, (str(tmp_path / "meeting"),), nprocs=2, start_method="fork")


def test_the_normalizer_of_one_process_is_its_boxes_and_at_least_one():
    assert count_boxes(torch.tensor([[True, True], [True, False]])) == 3
    assert count_boxes(torch.zeros(2, 0, dtype=torch.bool)) == 1


def _check_count(rank: int, meeting: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    box_mask = torch.ones(1, 5 if rank else 2, dtype=torch.bool)
    assert count_boxes(box_mask) == 3.5
    torch.distributed.destroy_process_group()


def losses_by_loops(layer, token_embeddings, targets, config) -> dict[str, float]:
    """The definitions, one text, query and box at a time, with the best pairing found by trying all."""
    total = dict.fromkeys(
        ("loss_ce", "loss_bbox", "loss_giou", "loss_contrastive_align", "cardinality_error", "loss_isfinal"),
        0.0,
    )
    right = asked = 0
    num_texts = len(layer.logits)
    for b in range(num_texts):
        num_boxes = int(targets["box_mask"][b].sum())
        wanted = targets["positive_map"][b, :num_boxes].float()
        if config.token_targets == "uniform":
            wanted = wanted / (wanted.sum(-1, keepdim=True) + 1e-6)
        boxes = targets["boxes"][b, :num_boxes]
        query_of = best_pairing(layer.logits[b], layer.pred_boxes[b], wanted, boxes)
        log_p = layer.logits[b].log_softmax(-1)
        for q in range(log_p.shape[0]):
            if q not in query_of:
                total["loss_ce"] -= 0.1 * log_p[q, 255].item()
        for n, q in enumerate(query_of):
            total["loss_ce"] -= (wanted[n] * log_p[q]).sum().item()
            total["loss_bbox"] += (layer.pred_boxes[b, q] - boxes[n]).abs().sum().item()
            total["loss_giou"] += 1 - giou_of(layer.pred_boxes[b, q], boxes[n])
            if targets["referred_mask"][b]:
                probability = layer.referred_logits[b, q].sigmoid()
                truth = targets["is_referred"][b, n]
                total["loss_isfinal"] += binary_cross_entropy(probability, truth).item()
                right += int((probability > 0.5) == (truth == 1))
                asked += 1
        similarity = layer.query_embeddings[b] @ token_embeddings[b].T / 0.07
        tokens_of = {
            q: targets["alignment_map"][b, n].nonzero()[:, 0].tolist() for n, q in enumerate(query_of)
        }
        for q, tokens in tokens_of.items():
            if tokens:
                term = similarity[q].logsumexp(0) - similarity[q, tokens].mean()
                total["loss_contrastive_align"] += term.item() / 2
        for t in range(similarity.shape[1]):
            queries = [q for q, tokens in tokens_of.items() if t in tokens]
            if queries:
                term = similarity[:, t].logsumexp(0) - similarity[queries, t].mean()
                total["loss_contrastive_align"] += term.item() / 2
        said = int((log_p.argmax(-1) != 255).sum())
        total["cardinality_error"] += abs(said - num_boxes)
    normalizer = int(targets["box_mask"].sum())
    losses = {k: v / (num_texts if k == "cardinality_error" else normalizer) for k, v in total.items()}
    return losses | {"accuracy_isfinal": right / asked}


def best_pairing(logits, pred_boxes, wanted, boxes) -> tuple[int, ...]:
    """The query of each box, by the least total cost over all possible pairings."""
    probabilities = logits.softmax(-1)

    def cost(queries: tuple[int, ...]) -> float:
        return sum(
            -(probabilities[q] * wanted[n]).sum().item()
            + 5 * (pred_boxes[q] - boxes[n]).abs().sum().item()
            - 2 * giou_of(pred_boxes[q], boxes[n])
            for n, q in enumerate(queries)
        )

    return min(itertools.permutations(range(len(logits)), len(boxes)), key=cost)


def giou_of(a: torch.Tensor, b: torch.Tensor) -> float:
    """Generalized IoU of two boxes (center x, center y, width, height), side by side."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = (
        (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2) for cx, cy, w, h in (a.tolist(), b.tolist())
    )
    overlap = max(0, min(ax1, bx1) - max(ax0, bx0)) * max(0, min(ay1, by1) - max(ay0, by0))
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - overlap
    hull = (max(ax1, bx1) - min(ax0, bx0)) * (max(ay1, by1) - min(ay0, by0))
    return overlap / union - (hull - union) / hull
