"""The command `mdetr` in float64, where rounding does not make equal runs differ."""

from __future__ import annotations

from typing import Any

import torch

from mdetr.cli.main import run
from mdetr.modeling import MdetrForObjectDetection

if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    encode_image = MdetrForObjectDetection.encode_image

    def encode_in_float64(self: MdetrForObjectDetection, pixel_values: torch.Tensor, *rest: Any) -> Any:
        return encode_image(self, pixel_values.double(), *rest)

    MdetrForObjectDetection.encode_image = encode_in_float64  # type: ignore[method-assign]
    run()
