"""Sine encodings against their definition, number by number."""

from __future__ import annotations

import math

import torch

from mdetr.model.position import box_encoding, grid_encoding


def test_grid_encoding_follows_the_definition() -> None:
    padding = torch.zeros(1, 2, 4, dtype=torch.bool)
    padding[:, :, 3] = True
    encoding = grid_encoding(padding, 8).reshape(2, 4, 8)
    y, x = 2 / (2 + 1e-6) * 2 * math.pi, 1 / (3 + 1e-6) * 2 * math.pi  # second row, first of three columns
    expected = [
        *(math.sin(y), math.cos(y), math.sin(y / 100), math.cos(y / 100)),
        *(math.sin(x), math.cos(x), math.sin(x / 100), math.cos(x / 100)),
    ]
    torch.testing.assert_close(encoding[1, 0], torch.tensor(expected))


def test_a_box_is_encoded_as_its_center_row_and_column_and_then_its_size() -> None:
    encoding = box_encoding(torch.tensor([[[0.25, 0.5, 0.1, 0.2]]]), 4)[0, 0]
    values = [0.5, 0.25, 0.2, 0.1]  # center y, center x, height, width
    expected = [part for v in values for part in (math.sin(v * 2 * math.pi), math.cos(v * 2 * math.pi))]
    torch.testing.assert_close(encoding, torch.tensor(expected))
