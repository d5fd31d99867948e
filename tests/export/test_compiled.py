"""Compiled graphs are kept and found again, give the same results, and take limited space."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mdetr.export import compiled
from mdetr.export.compiled import compilation_cache, compiled_folder
from mdetr.export.layout import ExportFormat
from mdetr.export.model import graph_runner, load_exported
from tests.export.conftest import Exported


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDETR_HOME", str(tmp_path / "home"))


def _kept() -> list[Path]:
    return sorted(compiled_folder().iterdir()) if compiled_folder().is_dir() else []


def test_graphs_from_the_cache_give_the_same_outputs_and_only_their_own(
    exported: Exported, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(exported("openvino", "fp32"), folder)
    ids = np.arange(5, 12)[None]
    without = graph_runner(folder, ExportFormat.OPENVINO)
    assert not _kept()
    expected = without.run("text", {"input_ids": ids, "attention_mask": np.ones_like(ids)})["text_features"]

    # Compile, then load what was kept
    for _ in range(2):
        got = load_exported(folder)[0].encode_text(ids).sequence
        np.testing.assert_array_equal(got, expected)
        (kept,) = _kept()
        assert len(list(kept.iterdir())) == 3

    # Other graphs at the same path
    shutil.rmtree(folder)
    shutil.copytree(exported("openvino", "int8"), folder)
    load_exported(folder)
    assert len(_kept()) == 2


def test_a_damaged_cache_is_compiled_again(exported: Exported) -> None:
    folder = exported("openvino", "fp32")
    ids = np.arange(5, 12)[None]
    expected = load_exported(folder)[0].encode_text(ids).sequence
    for size in (0, 100, 10_000):
        for file in _kept()[0].iterdir():
            content = file.read_bytes()
            file.unlink()
            file.write_bytes(content[:size])
        np.testing.assert_array_equal(load_exported(folder)[0].encode_text(ids).sequence, expected)


def test_a_model_runs_where_nothing_can_be_kept(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MDETR_HOME", str(tmp_path / "file"))
    assert load_exported(exported("openvino", "fp32"))[0].encode_text(np.arange(5, 12)[None]).sequence.size


def test_an_error_leaves_nothing_behind() -> None:
    with pytest.raises(RuntimeError), compilation_cache("key") as folder:
        assert folder is not None
        (folder / "half").write_text("")
        raise RuntimeError
    assert not _kept()


def test_the_models_that_were_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MAX_BYTES", 250)
    for number, key in enumerate(["a", "b", "a", "c"], start=1):
        with compilation_cache(key) as folder:
            assert folder is not None
            (folder / "graph").write_bytes(bytes(100))
        os.utime(compiled_folder() / key, (number, number))
    assert [folder.name for folder in _kept()] == ["a", "c"]
