"""The model as a whole: shapes, its three steps, saving and loading, compiling, checkpointing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForZeroShotObjectDetection

import mdetr  # noqa: F401  (registers the model with transformers)
from mdetr.errors import InvalidInputError
from mdetr.model.config import MdetrConfig
from mdetr.modeling import MdetrForObjectDetection
from tests.model.models import OPTIONS, small_config, small_inputs, small_model


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["published", "options"])
def test_outputs_have_the_documented_shapes(options: dict) -> None:
    with torch.no_grad():
        output = small_model(**options)(**small_inputs())
    assert output.logits.shape == (2, 7, 256)
    assert output.pred_boxes.shape == (2, 7, 4)
    assert output.query_embeddings.shape == (2, 7, 8)
    assert output.token_embeddings.shape == (2, 5, 8)
    assert len(output.auxiliary_outputs) == 2
    assert output.auxiliary_outputs[0].logits.shape == (2, 7, 256)
    assert ((output.pred_boxes >= 0) & (output.pred_boxes <= 1)).all()
    assert (output.referred_logits is None) == (not options)
    assert (output.answer_logits is None) == (not options)
    assert (output.pred_masks is None) == (not options)
    if options:
        assert {name: logits.shape for name, logits in output.answer_logits.items()} == {
            "type": (2, 3),
            "binary": (2, 1),
            "reg": (2, 20),
            "attr": (2, 15),
        }
        assert output.pred_masks.shape == (2, 7, 48, 64)
    assert (output.proposals is None) == (not options)


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["published", "options"])
def test_three_steps_equal_one_forward_to_the_bit(options: dict) -> None:
    model, inputs = small_model(**options), small_inputs()
    with torch.no_grad():
        whole = model(**inputs)
        images = model.encode_image(inputs["pixel_values"], inputs["pixel_mask"])
        texts = model.encode_text(inputs["input_ids"], inputs["attention_mask"])
        steps = model.fuse(images, texts)
    assert torch.equal(whole.logits, steps.logits)
    assert torch.equal(whole.pred_boxes, steps.pred_boxes)
    assert torch.equal(whole.query_embeddings, steps.query_embeddings)


def test_texts_that_share_an_image_equal_texts_with_their_own_copy() -> None:
    model, inputs = small_model(), small_inputs()
    index = torch.tensor([1, 1])
    copies = {name: inputs[name][index] for name in ("pixel_values", "pixel_mask")}
    with torch.no_grad():
        shared = model(**inputs, image_index=index)
        own = model(**inputs | copies)
    torch.testing.assert_close(shared.logits, own.logits)


PYRAMID: dict[str, Any] = {"backbone_stride": 16, "feature_pyramid": True}


def test_a_feature_pyramid_keeps_the_map_and_trains_its_projection() -> None:
    model, inputs = small_model(**PYRAMID), small_inputs()
    odd = inputs["pixel_values"][:, :, :80, :112]  # 5 x 7 positions, over 3 x 4 coarser ones
    features = model.encode_image(odd).sequence
    assert features.shape == (2, 35, 32)
    features.pow(2).sum().backward()
    assert model.coarse_projection.weight.grad.abs().sum() > 0
    assert all(p.grad is not None for p in model.backbone.body.layer4.parameters())
    assert model(**inputs).logits.shape == (2, 7, 256)


def test_a_feature_pyramid_adds_to_the_features_and_is_off_by_default() -> None:
    plain, pyramid = small_model(backbone_stride=16), small_model(**PYRAMID)
    assert plain.coarse_projection is None
    assert not any("coarse" in name or "layer4" in name for name in plain.state_dict())
    left = pyramid.load_state_dict(plain.state_dict(), strict=False)
    assert not left.unexpected_keys
    assert {name.split(".")[0] for name in left.missing_keys} == {"coarse_projection", "backbone"}
    torch.nn.init.zeros_(pyramid.coarse_projection.weight)
    torch.nn.init.constant_(pyramid.coarse_projection.bias, 2.0)
    with torch.no_grad():
        pixels = small_inputs()["pixel_values"]
        added = pyramid.encode_image(pixels).sequence - plain.encode_image(pixels).sequence
    torch.testing.assert_close(added, torch.full_like(added, 2.0), rtol=1e-4, atol=1e-4)


def test_a_feature_pyramid_and_masks_share_the_backbone(tmp_path: Path) -> None:
    options = OPTIONS | PYRAMID
    model = small_model(**options)
    with torch.no_grad():
        output = model(**small_inputs())
    assert output.pred_masks.shape == (2, 7, 48, 64)
    model.save_pretrained(tmp_path)
    loaded = MdetrForObjectDetection.from_pretrained(tmp_path).eval()
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():  # kernels may add in another order where weights lie elsewhere in memory
        torch.testing.assert_close(loaded(**small_inputs()).logits, output.logits, rtol=1e-5, atol=1e-5)


def test_padding_does_not_change_what_is_found() -> None:
    model, inputs = small_model(), small_inputs()
    alone = {
        "pixel_values": inputs["pixel_values"][1:, :, :64, :96],
        "pixel_mask": inputs["pixel_mask"][1:, :64, :96],
        "input_ids": inputs["input_ids"][1:, :3],
        "attention_mask": inputs["attention_mask"][1:, :3],
    }
    with torch.no_grad():
        padded, unpadded = model(**inputs), model(**alone)
    torch.testing.assert_close(padded.pred_boxes[1], unpadded.pred_boxes[0], rtol=1e-3, atol=1e-3)


def _without_path(config: MdetrConfig) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name != "_name_or_path"}


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["published", "options"])
def test_a_saved_model_loads_the_same(options: dict, tmp_path: Path) -> None:
    model = small_model(**options)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded = AutoModelForZeroShotObjectDetection.from_pretrained(tmp_path)
    assert isinstance(loaded, MdetrForObjectDetection)
    assert _without_path(AutoConfig.from_pretrained(tmp_path)) == _without_path(model.config)
    state = loaded.state_dict()
    assert set(state) == set(model.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("options", [{}, {"predict_masks": True, "freeze_detector": True}])
def test_a_loaded_model_trains_what_a_new_one_trains(options: dict, tmp_path: Path) -> None:
    model = small_model(**options)
    model.save_pretrained(tmp_path)
    fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert "backbone.body.layer1.0.conv1.weight" in fixed
    loaded = MdetrForObjectDetection.from_pretrained(tmp_path)
    assert {name for name, parameter in loaded.named_parameters() if not parameter.requires_grad} == fixed


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["published", "options"])
def test_gradient_checkpointing_gives_the_same_gradients(options: dict) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = small_model(dropout=0.0, **options).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**small_inputs()).pred_boxes.sum().backward()
        gradients.append(model.input_projection.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_bfloat16_autocast_runs_and_stays_close() -> None:
    model, inputs = small_model(), small_inputs()
    with torch.no_grad():
        exact = model(**inputs)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(**inputs)
    assert rough.pred_boxes.dtype == torch.float32
    torch.testing.assert_close(rough.pred_boxes, exact.pred_boxes, rtol=0.1, atol=0.1)


HEADS = {name: OPTIONS[name] for name in OPTIONS if name not in ("query_type", "token_head", "proposals")}
HALF = {torch.float16: 5e-3, torch.bfloat16: 5e-2}  # of the largest value, or of 1; half as much for boxes


def _assert_close(rough: torch.Tensor, exact: torch.Tensor, tolerance: float) -> None:
    largest = max(1.0, float(exact.abs().max()))
    torch.testing.assert_close(rough.float(), exact, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("query_type", ["learned", "reference"])
def test_weights_of_half_precision_find_the_same_with_every_head(query_type: str, dtype: torch.dtype) -> None:
    options = HEADS | {"query_type": query_type, "feature_pyramid": query_type == "reference"}
    model, inputs = small_model(**options), small_inputs()
    with torch.no_grad():
        exact = model(**inputs)
        rough = torch.nn.Module.to(model, dtype)(**inputs)
    assert rough.logits.dtype == dtype
    assert rough.pred_boxes.dtype == torch.float32
    _assert_close(rough.pred_boxes, exact.pred_boxes, HALF[dtype] / 2)
    for name in ("logits", "query_embeddings", "token_embeddings", "referred_logits", "pred_masks"):
        _assert_close(rough[name], exact[name], HALF[dtype])
    for name, logits in exact.answer_logits.items():
        _assert_close(rough.answer_logits[name], logits, HALF[dtype])


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_proposals_of_half_precision_are_boxes_in_float32_and_close(dtype: torch.dtype) -> None:
    model, inputs = small_model(**OPTIONS), small_inputs()
    with torch.no_grad():
        exact = model(**inputs).proposals
        output = torch.nn.Module.to(model, dtype)(**inputs)
    assert output.pred_boxes.dtype == output.proposals.pred_boxes.dtype == torch.float32
    _assert_close(output.proposals.logits.float().softmax(-1), exact.logits.softmax(-1), HALF[dtype])
    _assert_close(output.proposals.pred_boxes, exact.pred_boxes, HALF[dtype] / 2)


class Waits(TorchDispatchMode):
    """Notes the operations for which a CPU would wait for a GPU, and the convolutions."""

    NAMES = ("aten._local_scalar_dense.default", "aten.nonzero.default", "aten.convolution.default")

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(operation) in self.NAMES:
            self.names.append(str(operation))
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["published", "options"])
def test_a_training_step_reads_nothing_back_but_the_mask_of_the_text_and_the_costs(options: dict) -> None:
    model = small_model(**options).train()
    tokens = torch.zeros(2, 1, 256, dtype=torch.bool).index_fill(2, torch.tensor([1]), True)
    targets = {
        "boxes": torch.full((2, 1, 4), 0.3),
        "box_mask": torch.ones(2, 1, dtype=torch.bool),
        "positive_map": tokens,
        "alignment_map": tokens[..., :5],
    }
    with Waits() as waits:
        model(**small_inputs(), targets=targets).loss.backward()
    # The mask of the text is read before there is work to wait for; the costs of the matching go to the CPU
    # as a copy, which is not counted here
    first_convolution = waits.names.index("aten.convolution.default")
    assert set(waits.names[first_convolution:]) == {"aten.convolution.default"}


def test_a_compiled_model_gives_the_same_boxes() -> None:
    model, inputs = small_model(encoder_layers=1, decoder_layers=1), small_inputs()
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs).pred_boxes, model(**inputs).pred_boxes)


def test_reference_queries_start_from_the_best_proposals() -> None:
    model, inputs = small_model(**OPTIONS), small_inputs()
    with torch.no_grad():
        output = model(**inputs)
        proposals = output.proposals
        objectness = proposals.logits[..., :-1].logsumexp(-1) - proposals.logits[..., -1]
        best = objectness.topk(7, dim=1).indices
        start = proposals.pred_boxes.gather(1, best[..., None].expand(-1, -1, 4))
    # The box head of a new model moves nothing, so the first layer's boxes are the references themselves.
    torch.testing.assert_close(output.auxiliary_outputs[0].pred_boxes, start, rtol=1e-4, atol=1e-4)


def test_no_proposal_comes_from_padding() -> None:
    with torch.no_grad():
        proposals = small_model(**OPTIONS)(**small_inputs()).proposals
    no_object = proposals.logits.softmax(-1)[1, :, -1].reshape(6, 8)
    assert (no_object[4:] == 1).all()
    assert (no_object[:, 6:] == 1).all()
    assert (no_object[:4, :6] < 1).all()


def test_boxes_at_the_corners_of_a_padded_image_train_no_proposal_on_padding() -> None:
    model, inputs = small_model(**PROPOSALS), small_inputs()
    boxes = torch.tensor([[0.98, 0.02], [0.02, 0.98], [0.98, 0.98]]).repeat(2, 1, 1)
    tokens = torch.zeros(2, 3, 256, dtype=torch.bool).index_fill(2, torch.tensor([1]), True)
    targets = {
        "boxes": torch.cat((boxes, torch.full_like(boxes, 0.04)), dim=-1),
        "box_mask": torch.ones(2, 3, dtype=torch.bool),
        "positive_map": tokens,
        "alignment_map": tokens[..., :5],
    }
    output = model(**inputs, targets=targets)
    assert output.losses["loss_ce_proposals"] < 100  # a certain nothing would lose 1e4 for each match
    assert output.proposals.query_padding.sum(1).tolist() == [
        0,
        48 - 24,
    ]  # of 6 x 8 positions, 4 x 6 are inside


PROPOSALS: dict[str, Any] = {
    "query_type": "reference",
    "proposals": True,
    "backbone_stride": 16,
    "proposal_targets_per_box": 5,
}


def test_dot_product_tokens_beyond_the_text_are_impossible() -> None:
    with torch.no_grad():
        probabilities = small_model(**OPTIONS)(**small_inputs()).logits.softmax(-1)
    assert (probabilities[1, :, 3:255] == 0).all()  # the second text has three tokens
    assert (probabilities[0, :, :5] > 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone_norm": "layer"}, "backbone_norm must be one of frozen, batch, group; got 'layer'"),
        ({"proposals": True}, "proposals: true needs query_type: reference"),
        ({"look_forward_twice": True}, "look_forward_twice: true needs query_type: reference"),
        ({"denoising_groups": 3}, "denoising_groups: 3 needs query_type: reference"),
        ({"one_to_many_queries": 9}, "one_to_many_queries: 9 needs query_type: reference"),
        ({"proposal_content": "text"}, "proposal_content must be one of memory, learned; got 'text'"),
        ({"hidden_size": 36}, "multiple of twice the 4 attention heads"),
    ],
)
def test_impossible_configurations_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        small_config(**changes)


def test_parts_keep_the_order_by_which_the_optimizers_of_older_runs_know_them() -> None:
    model = small_model(**OPTIONS | {"feature_pyramid": True})
    parts = dict.fromkeys(name.split(".")[0] for name, _ in model.named_parameters())
    assert list(parts) == [
        *(
            "backbone",
            "input_projection",
            "coarse_projection",
            "image_norm",
            "text_encoder",
            "text_projection",
        ),
        *("encoder", "encoder_norm", "decoder", "decoder_norm", "queries", "proposal_head"),
        *("token_head", "box_head", "query_alignment", "token_alignment", "referred_head"),
        *("answers", "mask_attention", "mask_head"),
    ]
    answers = dict.fromkeys(name.split(".")[0] for name, _ in model.answers.named_parameters())
    assert list(answers) == ["positions", "sums", "heads"]
