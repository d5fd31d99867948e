"""Run lengths: there and back."""

from __future__ import annotations

import pytest
import torch

from mdetr.rle import decode_masks, encode_masks, run_lengths

MASKS = {
    "empty": torch.zeros(3, 4),
    "full": torch.ones(3, 4),
    "starts": torch.tensor([[1.0, 0], [0, 1]]),
    "random": (torch.rand(7, 5, generator=torch.Generator().manual_seed(0)) > 0.5).float(),
}


@pytest.mark.parametrize("name", MASKS)
def test_run_lengths_go_down_the_columns_and_begin_with_zeros(name: str) -> None:
    mask = MASKS[name].bool()
    found = run_lengths(mask)
    values = [place % 2 for place, count in enumerate(found["counts"]) for _ in range(count)]
    assert found["size"] == list(mask.shape)
    assert values == mask.T.flatten().int().tolist()


def test_compressed_masks_decode_to_what_was_encoded() -> None:
    masks = torch.stack([MASKS["random"], 1 - MASKS["random"]]).to(torch.uint8)
    assert torch.equal(decode_masks(encode_masks(masks), 7, 5), masks)
