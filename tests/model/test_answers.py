"""How answers are read from the decoder."""

from __future__ import annotations

import pytest
import torch

from mdetr.model.answers import SumAttention
from tests.model.models import small_config


@pytest.mark.parametrize("things", [0, 1, 3, 7])
def test_what_is_asked_for_adds_up_and_all_else_counts_nothing(things: int) -> None:
    sums = SumAttention(small_config(hidden_size=4, num_attention_heads=1))
    asked = torch.tensor([1.0, 0.0, 0.0, 0.0])
    with torch.no_grad():
        for layer in (sums.query, sums.key, sums.value, *sums.combine.layers):
            layer.bias.zero_()
        sums.query.weight.copy_(100 * torch.eye(4))
        sums.key.weight.copy_(torch.eye(4))
        sums.value.weight.copy_(torch.eye(4))
        sums.combine.layers[0].weight.copy_(torch.eye(4, 8).roll(4, 1))  # the sums alone
        sums.combine.layers[1].weight.copy_(torch.eye(4))
        found = torch.stack([asked if place < things else -asked for place in range(7)])
        output = sums(asked[None, None], found[None])
    torch.testing.assert_close(output[0, 0], (1 + things) * asked)
