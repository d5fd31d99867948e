"""Released models by name, from a server on this machine: downloaded once, verified, converted, kept."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from mdetr import Mdetr
from mdetr.checkpoints import conversion
from mdetr.checkpoints.cache import cache_folder, download_path, model_folder
from mdetr.checkpoints.conversion import has_numbered_answers
from mdetr.checkpoints.registry import ReleasedModel, released_model
from mdetr.checkpoints.released import get_released, is_downloaded
from mdetr.errors import CheckpointError
from mdetr.model.config import MdetrConfig
from tests.checkpoints.conftest import FileServer
from tests.cli.conftest import Command, command
from tests.model.reference import FOLDER, formula_weights

__all__ = ["command"]  # a fixture

CLEVR: ReleasedModel = released_model("clevr-r18")  # type: ignore[assignment]
GQA: ReleasedModel = released_model("gqa-r101")  # type: ignore[assignment]


def _released_file(layout_name: str, more: dict[str, tuple[int, ...]] | None = None) -> bytes:
    """A file of a released layout; of each large tensor one number is stored, which stands for all."""
    layout = json.loads((FOLDER / "layout" / f"{layout_name}.json").read_text())
    shapes = {key: tuple(shape) for key, (shape, _) in layout["keys"].items()} | (more or {})
    formula = formula_weights()
    state = {
        key: formula.formula_tensor(key, shape)
        if np.prod(shape) < 10_000
        else torch.tensor(0.01).expand(shape)
        for key, shape in shapes.items()
    }
    content = io.BytesIO()
    args = argparse.Namespace(**layout["args"])
    torch.save({"model": state, "model_ema": None, "args": args}, content)
    return content.getvalue()


@pytest.fixture(scope="module")
def clevr_file() -> bytes:
    return _released_file("clevr_r18")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MDETR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MDETR_OFFLINE", raising=False)
    yield tmp_path / "home"
    shutil.rmtree(tmp_path / "home", ignore_errors=True)  # half a gigabyte


@pytest.fixture
def mirror(server: FileServer, clevr_file: bytes, home: Path) -> str:
    server.files[f"/{CLEVR.file}"] = clevr_file
    return server.address


def _not_convertible() -> bytes:
    """What looks like a checkpoint and is none."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", b"nothing")
    return content.getvalue()


def _files(home: Path) -> list[str]:
    """What is there, without the files of models."""
    every = (str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    return sorted(path for path in every if path.count("/") == 1 and not path.endswith(".lock"))


def test_a_released_model_is_downloaded_once_by_its_name(
    server: FileServer, mirror: str, home: Path, clevr_file: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    left = home / "models" / ".clevr-r18.abc" / "clevr-r18"  # by a process that was killed
    left.mkdir(parents=True)
    model = Mdetr.from_pretrained("clevr-r18", device="cpu", mirror=mirror)
    result = model.answer(np.zeros((64, 96, 3), np.uint8), "How many cubes are there?")
    assert result.answer_type in model.model.config.answer_types
    # The download is gone; its checksum stays.
    checksum = hashlib.sha256(clevr_file).hexdigest()
    assert _files(home) == ["models/clevr-r18.json"]
    assert json.loads((home / "models" / "clevr-r18.json").read_text()) == {
        "file": "clevr_checkpoint.pth",
        "size": len(clevr_file),
        "sha256": checksum,
    }
    assert f"The SHA-256 of clevr_checkpoint.pth was not known before. It is {checksum}" in caplog.text
    assert not left.exists()
    # Now it needs nobody.
    server.shutdown()
    again = Mdetr.from_pretrained("clevr-r18", device="cpu")
    assert torch.equal(again.model.box_head.layers[0].weight, model.model.box_head.layers[0].weight)
    assert server.requests == [("/clevr_checkpoint.pth", None)]


def test_two_processes_download_once(server: FileServer, mirror: str, home: Path) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "MDETR_MIRROR": mirror}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "mdetr", "download", "clevr-r18", "--keep-download"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert all("try it with: mdetr answer IMAGE TEXT --model clevr-r18" in text for text in outputs)
    assert server.requests == [("/clevr_checkpoint.pth", None)]
    assert _files(home) == ["downloads/clevr_checkpoint.pth", "models/clevr-r18.json"]


def test_a_later_download_with_another_checksum_is_refused(
    server: FileServer, mirror: str, home: Path, clevr_file: bytes
) -> None:
    record = home / "models" / "clevr-r18.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"sha256": hashlib.sha256(clevr_file + b" ").hexdigest()}))
    with pytest.raises(CheckpointError, match=rf"SHA-256 of .* is .* not .*, delete {record} first"):
        get_released(CLEVR, mirror)
    assert _files(home) == ["models/clevr-r18.json"]
    assert not is_downloaded(CLEVR)
    record.write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read; delete it"):
        get_released(CLEVR, mirror)
    assert len(server.requests) == 1


def test_a_file_is_held_against_what_is_known_of_it(
    server: FileServer, mirror: str, home: Path, clevr_file: bytes
) -> None:
    with pytest.raises(
        CheckpointError, match=f"is {hashlib.sha256(clevr_file).hexdigest()}, not the one that"
    ):
        get_released(replace(CLEVR, sha256="0" * 64), mirror)
    with pytest.raises(CheckpointError, match=f"has {len(clevr_file):,} bytes instead of 5:"):
        get_released(replace(CLEVR, size=5), mirror)
    server.files[f"/{CLEVR.file}"] = b"<html>Sign in</html>"
    with pytest.raises(CheckpointError, match="a page that was saved instead of the file"):
        get_released(CLEVR, mirror)
    assert _files(home) == []


def test_a_file_is_held_against_what_its_record_states(server: FileServer, home: Path) -> None:
    content = _not_convertible()
    server.files[f"/record/1/files/{CLEVR.file}"] = content
    mirror = f"{server.address}/record/1/files"
    wrong = {
        "did not arrive as it should: its MD5 is not 00ff": (len(content), "md5:00ff"),
        f"has {len(content)} bytes instead of 7:": (7, f"md5:{hashlib.md5(content).hexdigest()}"),
    }
    for message, (size, checksum) in wrong.items():
        stated = {"files": [{"key": CLEVR.file, "size": size, "checksum": checksum}]}
        server.files["/api/records/1"] = json.dumps(stated).encode()
        with pytest.raises(CheckpointError, match=message):
            get_released(CLEVR, mirror)
        assert _files(home) == []
    good = {"key": CLEVR.file, "size": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}"}
    for stated in ({"files": [good]}, {"message": "another answer"}, ["no record"]):
        server.files["/api/records/1"] = json.dumps(stated).encode()
        with pytest.raises(CheckpointError, match="was not converted"):  # it was verified
            get_released(CLEVR, mirror, force=True)
        assert _files(home) == ["downloads/clevr_checkpoint.pth"]


def test_a_damaged_model_in_the_cache_says_what_to_type(home: Path) -> None:
    folder = model_folder("clevr-r18")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "mdetr"}')
    with pytest.raises(CheckpointError, match="To download it again, run: mdetr download clevr-r18 --force"):
        Mdetr.from_pretrained("clevr-r18", device="cpu")


def test_a_file_that_cannot_be_converted_is_kept_and_named(server: FileServer, home: Path) -> None:
    server.files[f"/{CLEVR.file}"] = _not_convertible()
    with pytest.raises(
        CheckpointError,
        match=r"clevr-r18 was not converted\. .* to download it again, run: mdetr download clevr-r18",
    ):
        get_released(CLEVR, f"{server.address}/{CLEVR.file}")  # the address of the file itself
    assert _files(home) == ["downloads/clevr_checkpoint.pth"]


def test_an_interrupted_conversion_leaves_only_the_download(
    mirror: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(state: dict[str, Any], path: Path, **options: object) -> None:
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        get_released(CLEVR, mirror)
    assert _files(home) == ["downloads/clevr_checkpoint.pth"]
    assert [path.name for path in (home / "models").iterdir()] == ["clevr-r18.lock"]


def test_nothing_is_downloaded_offline_but_a_file_that_was_put_there_is_used(
    server: FileServer, mirror: str, home: Path, clevr_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MDETR_MIRROR", mirror)
    for variable in ("HF_HUB_OFFLINE", "MDETR_OFFLINE"):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", variable == "HF_HUB_OFFLINE")
        monkeypatch.setenv("MDETR_OFFLINE", "1" if variable == "MDETR_OFFLINE" else "0")
        with pytest.raises(
            CheckpointError,
            match=f"^clevr-r18 is not on this machine, and {variable} forbids to download it. "
            f"Unset {variable}, or put clevr_checkpoint.pth into {home}/downloads; "
            f"it comes from {mirror}/clevr_checkpoint.pth.$",
        ):
            Mdetr.from_pretrained("clevr-r18")
    assert not home.exists()
    download_path(CLEVR.file).parent.mkdir(parents=True)
    download_path(CLEVR.file).write_bytes(clevr_file)
    assert get_released(CLEVR) == home / "models" / "clevr-r18"
    with pytest.raises(CheckpointError, match="MDETR_OFFLINE forbids to download clevr-r18 again"):
        get_released(CLEVR, force=True)
    assert is_downloaded(CLEVR)
    assert download_path(CLEVR.file).is_file()  # it could not be had again
    assert server.requests == []


def test_the_answers_of_gqa_get_their_words_when_they_are_known(
    server: FileServer, home: Path, tmp_path: Path, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    heads = {"qa_embed.weight": (1, 256), "answer_head.weight": (3, 256), "answer_head.bias": (3,)}
    server.files[f"/{GQA.file}"] = _released_file("clevrref_r18", heads)
    folder = get_released(GQA, server.address)
    assert MdetrConfig.from_pretrained(folder).answer_vocabulary == {"answer": ["#0", "#1", "#2"]}
    assert "unpack https://zenodo.org/record/4729015/files/mdetr_annotations.tar.gz" in caplog.text
    (tmp_path / "gqa_answer2id_by_type.json").write_text("{}")
    (tmp_path / "gqa_answer2id.json").write_text(json.dumps({"no": 0, "yes": 1}))
    code, _, error = command("download", "gqa-r101", "--answers", tmp_path)
    assert code == 1
    assert "has {'answer': 3}, the annotations in" in error
    (tmp_path / "gqa_answer2id.json").write_text(json.dumps({"no": 0, "yes": 1, "red": 2}))
    code, output, _ = command("download", "gqa-r101", "--answers", tmp_path)
    assert code == 0
    assert f"gqa-r101 is in {folder}" in output
    assert not has_numbered_answers(folder)
    model = Mdetr.from_pretrained("gqa-r101", device="cpu")
    assert model.answer(np.zeros((64, 96, 3), np.uint8), "Is it?").answer in ("no", "yes", "red")
    assert len(server.requests) == 1


def test_models_are_kept_in_the_hugging_face_cache_unless_another_place_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MDETR_HOME", raising=False)
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", "/cache/assets")
    assert cache_folder() == Path("/cache/assets/mdetr")
    monkeypatch.setenv("MDETR_HOME", "~/here")
    assert model_folder("gqa-r101") == Path.home() / "here" / "models" / "gqa-r101"
