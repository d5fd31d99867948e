"""The outputs are those of the library: by name, by key and by place, each field described."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
import torch

from mdetr.model.interface import MdetrModelOutput, MdetrOutput


@pytest.mark.parametrize("output", [MdetrOutput, MdetrModelOutput])
def test_every_field_is_described(output: type) -> None:
    described = re.findall(r"^ {8}(\w+): ", output.__doc__ or "", flags=re.MULTILINE)
    assert described == [field.name for field in fields(output)]


def test_fields_are_read_by_name_key_and_place_and_what_is_lacking_is_left_out() -> None:
    logits, boxes = torch.rand(1, 2, 256), torch.rand(1, 2, 4)
    output = MdetrOutput(logits=logits, pred_boxes=boxes)
    assert output.logits is output["logits"] is output[0] is logits
    assert list(output) == ["logits", "pred_boxes"]
    assert output.loss is None
    assert output.to_tuple() == (logits, boxes)
