"""Saved folders in processes that never import mdetr, which are real ones here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mdetr
from mdetr.processing.processor import MdetrProcessor
from mdetr.remote_code import CONFIG_CLASSES, FILE, PROCESSOR_CLASSES

BUNDLED = Path(mdetr.__file__).parent / "assets" / "models"
WITHOUT_MDETR = "import sys; sys.modules['mdetr'] = None  # as if it were not installed\n"


def _load(
    auto: str, folder: Path, cache: Path, options: str = "", before: str = ""
) -> subprocess.CompletedProcess:
    """What a process prints that loads a folder with an Auto class, and never imports mdetr itself."""
    program = f"""{before}
from transformers import {auto}
print(type({auto}.from_pretrained({str(folder)!r}{options})).__name__)
"""
    environment = os.environ | {"HF_MODULES_CACHE": str(cache)}
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize(
    ("auto", "name"),
    [
        ("AutoConfig", "MdetrConfig"),
        ("AutoModel", "MdetrModel"),
        ("AutoModelForZeroShotObjectDetection", "MdetrForObjectDetection"),
        ("AutoProcessor", "MdetrProcessor"),
    ],
)
def test_trusted_folders_load_as_what_they_are(
    auto: str, name: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    run = _load(auto, tiny_model_folder, tmp_path, ", trust_remote_code=True")
    assert run.stdout.split() == [name], run.stderr


def test_a_pipeline_of_a_trusted_folder_is_mdetrs(tiny_model_folder: Path, tmp_path: Path) -> None:
    program = f"""
from transformers import pipeline
detector = pipeline("zero-shot-object-detection", model={str(tiny_model_folder)!r}, trust_remote_code=True)
print(type(detector).__name__, type(detector.model).__name__, type(detector.image_processor).__name__)
"""
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    names = ["MdetrZeroShotObjectDetectionPipeline", "MdetrForObjectDetection", "MdetrImageProcessor"]
    assert run.stdout.split() == names, run.stderr


@pytest.mark.parametrize("auto", ["AutoModelForZeroShotObjectDetection", "AutoProcessor"])
def test_where_mdetr_is_not_installed_the_error_says_so(
    auto: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    run = _load(auto, tiny_model_folder, tmp_path, ", trust_remote_code=True", WITHOUT_MDETR)
    assert run.returncode != 0
    assert (
        run.stderr.strip()
        .splitlines()[-1]
        .startswith(
            "ImportError: This model runs with the Python package mdetr, which is not installed here: install"
        )
    )


@pytest.mark.parametrize("auto", ["AutoModelForZeroShotObjectDetection", "AutoProcessor"])
def test_without_trust_the_error_names_the_argument(
    auto: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    run = _load(auto, tiny_model_folder, tmp_path)
    assert run.returncode != 0
    assert "pass the argument `trust_remote_code=True`" in run.stderr


@pytest.mark.parametrize("name", ["clevr-tiny", "photo-tiny"])
def test_bundled_models_have_it_and_their_cards_say_what_to_install(name: str) -> None:
    folder = BUNDLED / name
    assert (folder / FILE.name).read_bytes() == FILE.read_bytes()
    assert json.loads((folder / "config.json").read_text())["auto_map"] == dict(CONFIG_CLASSES)
    assert json.loads((folder / "processor_config.json").read_text())["auto_map"] == dict(PROCESSOR_CLASSES)
    assert "must be installed" in (folder / "README.md").read_text()


def test_a_processor_saved_alone_has_it_too(tiny_model_folder: Path, tmp_path: Path) -> None:
    MdetrProcessor.from_pretrained(tiny_model_folder).save_pretrained(tmp_path)
    assert (tmp_path / FILE.name).is_file()
    assert json.loads((tmp_path / "processor_config.json").read_text())["auto_map"] == dict(PROCESSOR_CLASSES)
