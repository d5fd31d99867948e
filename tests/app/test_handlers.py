"""Handlers of the page: files, programs, limits and addresses."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdetr.app.handlers import IDLE_SECONDS, START, Handlers, PageConfig
from mdetr.app.predictor import MASK_THRESHOLD, CachedPredictor
from mdetr.inference.queries import MAX_CHARACTERS, MAX_NAMES
from tests.app.conftest import DEMO

SCENE, TEXT = str(DEMO / "shapes.png"), "two purple metal balls and a red cube"


@pytest.fixture(scope="module")
def predictor() -> CachedPredictor:
    return CachedPredictor()


@pytest.fixture
def handlers(predictor: CachedPredictor, tmp_path: Path) -> Handlers:
    return Handlers(PageConfig("clevr-tiny"), predictor, tmp_path)


def _predict(handlers: Handlers, task: str = "grounding", text: str = TEXT, **changes: Any) -> Any:
    arguments = {"picture": SCENE, "names": [], "model": "clevr-tiny", "threshold": 0.5, "overlap": 0.7}
    return handlers.predict(task=task, text=text, **(arguments | changes))


@pytest.mark.parametrize(
    ("task", "text", "names", "overlap"),
    [
        ("grounding", TEXT, [], 0.7),
        ("grounding", TEXT, [], 0.2),
        ("referring", "the green ball", [], 0.7),
        ("answering", "How many balls are there?", [], 0.7),
        ("detection", "", ["red cube", "ball"], 0.7),
    ],
)
def test_the_program_that_is_shown_gives_the_result_that_is_shown(
    handlers: Handlers,
    task: str,
    text: str,
    names: list[str],
    overlap: float,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    candidates, _, code = _predict(handlers, task, text, names=names, overlap=overlap)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes.png").write_bytes(Path(SCENE).read_bytes())
    variables: dict[str, Any] = {}
    exec(code.value, variables)
    shown, own = candidates.select(0.5, overlap), variables["result"]
    assert len(shown.boxes) > 0
    assert sorted(shown.phrases) == sorted(own.phrases)
    assert np.allclose(np.sort(shown.scores), np.sort(own.scores), atol=1e-5)
    assert (tmp_path / "result.png").stat().st_size > 0


def test_the_sliders_do_not_run_the_model(
    handlers: Handlers, predictor: CachedPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates, view, _ = _predict(handlers)
    monkeypatch.setattr(predictor, "predict", pytest.fail)
    fewer, _ = handlers.select(candidates, SCENE, "grounding", TEXT, [], "clevr-tiny", 0.995, 0.7)
    assert 0 < len(fewer["boxes"]) < len(view["boxes"])


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"picture": None}, "empty", START),
        ({"text": "  "}, "empty", "Enter a text"),
        ({"task": "detection"}, "empty", "Enter the names"),
        ({"text": "x" * (MAX_CHARACTERS + 1)}, "error", "The text has 2,001 characters; shorten it"),
        (
            {"task": "detection", "names": ["x"] * (MAX_NAMES + 1)},
            "error",
            "class names; send at most 200",
        ),
        ({"text": "cube " * 300}, "error", "has only 256 positions; shorten it"),
        ({"model": "nothing/here"}, "error", "nothing/here"),
        ({"picture": __file__}, "error", "is not an image in a known format"),
    ],
)
def test_what_cannot_be_predicted_is_explained(
    handlers: Handlers, changes: dict[str, Any], status: str, message: str
) -> None:
    _, view, _ = _predict(handlers, **changes)
    assert view["status"] == status
    assert message in view["message"]


def test_a_model_with_masks_segments(
    predictor: CachedPredictor, tiny_model_folder: Path, tmp_path: Path
) -> None:
    model = str(tiny_model_folder)
    handlers = Handlers(PageConfig(model), predictor, tmp_path)
    assert ("Segment", "segmentation") in handlers.task_choices(model)
    assert handlers.choose_task("segmentation", model)[2].minimum == MASK_THRESHOLD
    candidates, view, code = _predict(handlers, "segmentation", "the cube", model=model, threshold=0.1)
    assert view["mask"].startswith("data:image/png;base64,")
    assert len(view["boxes"]) == len(candidates.select(0.1, 0.7).masks) > 0
    assert "model.segment('shapes.png', 'the cube', threshold=0.1)" in code.value
    assert handlers.write_files(candidates, 0.1, 0.7)[1] is not None


def test_only_listed_models_are_loaded_unless_any_is_allowed(
    predictor: CachedPredictor, tmp_path: Path
) -> None:
    handlers = Handlers(PageConfig("clevr-tiny", any_model=False), predictor, tmp_path)
    for name in ("/etc", "somebody/model"):
        *_, view = handlers.choose_model(name, "grounding")
        assert "offers only the models in its list" in view["message"]
        assert "offers only the models in its list" in _predict(handlers, model=name)[1]["message"]


def test_downloads_hold_the_selection_and_old_ones_are_deleted(handlers: Handlers, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    os.utime(old, (0, 0))
    assert IDLE_SECONDS < 24 * 3600
    candidates, view, _ = _predict(handlers)
    _, picture, results, coco = handlers.write_files(candidates, 0.5, 0.7)
    assert picture is not None and results is not None and coco is not None
    assert Path(picture).read_bytes()[:2] == b"\xff\xd8"
    for file, entries in ((results, "groundings"), (coco, None)):
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        assert len(content[entries] if entries else content) == len(view["boxes"]) == 3
    assert not old.exists()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a local server with the demo's images."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(DEMO))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_an_address_in_the_own_network_is_read_only_if_that_is_allowed(
    predictor: CachedPredictor, tmp_path: Path, pictures: str
) -> None:
    query = ("grounding", TEXT, [], "clevr-tiny", 0.5, 0.7)
    for is_allowed in (False, True):
        handlers = Handlers(PageConfig("clevr-tiny", private_addresses=is_allowed), predictor, tmp_path)
        picture, _, view, _ = handlers.read_and_predict(f"{pictures}/shapes.png", *query)
        if is_allowed:
            assert Path(picture).suffix == ".png"
            assert len(view["boxes"]) == 3
        else:
            assert "is in a private network" in view["message"]
    *_, view, _ = handlers.read_and_predict(f"{pictures}/README.md", *query)
    assert "is not an image in a known format" in view["message"]
    *_, view, _ = handlers.read_and_predict("file:///etc/passwd", *query)
    assert view["status"] == "error"
