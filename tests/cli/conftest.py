"""Running the command in this process, and pictures to run it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mdetr.cli.main import main
from mdetr.modeling import MdetrForObjectDetection

Command = Callable[..., tuple[int, str, str]]
SHAPES = Path(__file__).parents[1] / "fixtures" / "shapes" / "images" / "train"


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Arguments -> exit code, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "160")  # tables are not wrapped

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def ran_in(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, torch.dtype]]:
    """The devices and types of numbers in which models have seen images."""
    seen = set()
    encode = MdetrForObjectDetection.encode_image

    def watched(self: MdetrForObjectDetection, *inputs: Any, **named: Any) -> Any:
        seen.add((self.device.type, self.dtype))
        return encode(self, *inputs, **named)

    monkeypatch.setattr(MdetrForObjectDetection, "encode_image", watched)
    return seen


@pytest.fixture
def picture() -> Path:
    """A generated scene."""
    return SHAPES / "CLEVR_train_000000.png"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two pictures and a text."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, size in (("one", (60, 40)), ("two", (40, 60))):
        Image.new("RGB", size, (200, 30, 30)).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder
