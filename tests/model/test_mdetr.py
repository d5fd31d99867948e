"""The model without heads: its output, and its weights, which are those of the model with heads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from mdetr.errors import InvalidInputError
from mdetr.model.mdetr import MdetrModel
from mdetr.modeling import MdetrForObjectDetection
from tests.model.models import OPTIONS, small_config, small_inputs, small_model


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["published", "options"])
def test_outputs_have_the_documented_shapes(options: dict) -> None:
    with torch.no_grad():
        output = MdetrModel(small_config(**options)).eval()(**small_inputs())
    positions = 48 if options else 12  # a stride of 16 or 32 over 96 x 128 pixels
    assert output.last_hidden_state.shape == (2, 7, 32)
    assert [hidden.shape for hidden in output.intermediate_hidden_states] == [(2, 7, 32)] * 3
    assert output.intermediate_hidden_states[-1] is output.last_hidden_state
    assert output.encoder_last_hidden_state_vision.shape == (2, positions, 32)
    assert output.encoder_last_hidden_state_text.shape == (2, 5, 32)
    if options:
        assert [boxes.shape for boxes in output.intermediate_boxes] == [(2, 7, 4)] * 3
        assert [hidden.shape for hidden in output.answer_hidden_states] == [(2, 4, 32)] * 3
        assert output.proposals.pred_boxes.shape == (2, positions, 4)
    else:
        assert output.intermediate_boxes is output.answer_hidden_states is output.proposals is None


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["published", "options"])
def test_heads_find_in_its_output_what_the_model_with_heads_finds(options: dict, tmp_path: Path) -> None:
    whole, inputs = small_model(**options), small_inputs()
    whole.save_pretrained(tmp_path)
    base, loading = MdetrModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    with torch.no_grad():
        expected, output = whole(**inputs), base.eval()(**inputs)
        padding = inputs["attention_mask"] == 0
        text_memory = output.encoder_last_hidden_state_text
        logits = whole.token_head(output.last_hidden_state, text_memory, padding)
    assert torch.equal(logits, expected.logits)
    if options:
        assert torch.equal(output.intermediate_boxes[-1], expected.pred_boxes)


def test_the_model_with_heads_starts_from_a_model_without(tmp_path: Path) -> None:
    base = MdetrModel(small_config(**OPTIONS))
    base.save_pretrained(tmp_path)
    whole, loading = MdetrForObjectDetection.from_pretrained(tmp_path, output_loading_info=True)
    heads = {name.split(".")[0] for name in loading["missing_keys"]}
    assert heads >= {"token_head", "referred_head", "mask_head", "mask_attention"}
    assert not loading["unexpected_keys"]
    state = whole.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in base.state_dict().items())


def test_auto_model_loads_a_model_without_its_heads(tiny_model_folder: Path) -> None:
    assert type(AutoModel.from_pretrained(tiny_model_folder)) is MdetrModel


@pytest.mark.parametrize("make", [MdetrModel, MdetrForObjectDetection])
def test_images_without_padding_and_texts_need_no_masks(make: type) -> None:
    inputs = small_inputs()
    pixel_values, input_ids = inputs["pixel_values"][:1], inputs["input_ids"][:1]
    model = make(small_config()).eval()
    with torch.no_grad():
        without = model(pixel_values=pixel_values, input_ids=input_ids)
        whole = model(
            pixel_values=pixel_values,
            pixel_mask=torch.ones_like(pixel_values[:, 0]),
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            token_type_ids=torch.zeros_like(input_ids),
        )
    assert torch.equal(without[0], whole[0])


@pytest.mark.parametrize("make", [MdetrModel, MdetrForObjectDetection])
def test_images_without_texts_are_refused(make: type) -> None:
    with pytest.raises(InvalidInputError, match="give input_ids"):
        make(small_config())(pixel_values=small_inputs()["pixel_values"])


def test_boxes_come_without_heads_where_queries_are_boxes_and_are_missed_plainly_elsewhere() -> None:
    inputs = small_inputs()
    with torch.no_grad():
        whole = small_model(**OPTIONS)
        base = MdetrModel(small_config(**OPTIONS)).eval()
        base.load_state_dict(whole.state_dict(), strict=False)
        assert torch.equal(base(**inputs).pred_boxes, whole(**inputs).pred_boxes)
        learned = MdetrModel(small_config()).eval()(**inputs)
    with pytest.raises(AttributeError, match="load it with MdetrForObjectDetection or AutoModelForZeroShot"):
        learned.pred_boxes  # noqa: B018 (the access is what is tested)
