"""Scenes, pictures and sentences written in CLEVR's layout: a number and a seed in, a folder out."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mdetr.data.sources.json_lists import iterate_list
from mdetr.errors import InvalidInputError
from mdetr.files import atomic_write
from mdetr.synthetic_clevr.appearance import Look
from mdetr.synthetic_clevr.captions import SceneGrammar, Sentence
from mdetr.synthetic_clevr.questions import AnswerBalance, ask_about
from mdetr.synthetic_clevr.rendering import Renderer, visible_boxes, visible_pixels
from mdetr.synthetic_clevr.scenes import MAX_OBJECTS, MIN_OBJECTS, Scene, sample_scene

CHUNK = 25  # scenes a worker makes before it reports
VISIBLE_SHARE = 200 / (480 * 320)  # of the picture that each object must show at least, as in CLEVR
VERSION = "2"


@dataclass(frozen=True)
class SynthesisOptions:
    """What to make.

    Attributes:
        split: Name of the part.
        seed: The same seed gives the same files.
        width, height: Of the pictures, in pixels.
        captions, expressions, questions: How many texts of each kind a scene has at most.
        look: "home", or "unseen" for cameras, lights and grounds that "home" never has.
    """

    split: str = "train"
    seed: int = 0
    width: int = 240
    height: int = 160
    captions: int = 4
    expressions: int = 3
    questions: int = 0
    look: Look = "home"


def synthesize(
    output: str | Path,
    num_scenes: int,
    options: SynthesisOptions,
    workers: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> Path:
    """Write `num_scenes` scenes; the same seed gives the same files, however many workers there are.

    Pictures go to images/SPLIT, the rest to scenes, captions, refexps and questions, which appear once all is
    done.

    Args:
        output: the folder to write to; it may hold other splits.
        num_scenes: how many scenes.
        options: split, seed, sizes, sentences.
        workers: processes; each has its own renderer.
        on_progress: called with the number of scenes that were finished since the last call.

    Returns:
        The folder.

    Raises:
        InvalidInputError: the split already exists, or a number is not positive.
        MissingDependencyError: MuJoCo or an off-screen OpenGL is missing.
    """
    folder = Path(output)
    if num_scenes < 1 or workers < 1:
        raise InvalidInputError(f"Scenes and workers must be at least 1; found {num_scenes} and {workers}.")
    if _file(folder, "scenes", options.split).exists():
        raise InvalidInputError(
            f"{folder} has a split {options.split!r} already; name another with --split, or another folder."
        )
    _start_worker(options)  # before there are folders, which would be left behind where nothing can be drawn
    (folder / "images" / options.split).mkdir(parents=True, exist_ok=True)
    chunks = [range(start, min(start + CHUNK, num_scenes)) for start in range(0, num_scenes, CHUNK)]
    made: dict[int, list[dict[str, Any]]] = {}
    for first, entries in _make(folder, options, chunks, min(workers, len(chunks))):
        made[first] = entries
        if on_progress is not None:
            on_progress(len(entries))
    scenes = [entry for first in sorted(made) for entry in made[first]]
    info = {"split": options.split, "version": VERSION, "seed": options.seed}
    if options.questions:
        _write_questions(folder, info, [entry["scene"] for entry in scenes], options.questions)
    for kind in ("captions", "refexps", "scenes"):  # the scenes last: they say that the split is whole
        if kind == "scenes":
            entries = [entry["scene"] for entry in scenes]
        else:
            entries = [sentence for entry in scenes for sentence in entry[kind]]
        _write_json(_file(folder, kind, options.split), {"info": info, kind: entries})
    return folder


def ask_about_split(folder: Path, split: str, questions: int, seed: int = 0) -> int:
    """Write questions about the scenes of a split that is there, in CLEVR's layout.

    Returns:
        How many.

    Raises:
        InvalidInputError: there are no such scenes, or there are questions already.
    """
    if _file(folder, "questions", split).exists():
        raise InvalidInputError(f"{_file(folder, 'questions', split)} already exists; remove it first.")
    scenes = list(iterate_list(_file(folder, "scenes", split), "scenes"))
    return _write_questions(folder, {"split": split, "version": VERSION, "seed": seed}, scenes, questions)


def _write_questions(folder: Path, info: dict[str, Any], scenes: Sequence[dict[str, Any]], count: int) -> int:
    entries: list[dict[str, Any]] = []
    balance = AnswerBalance()
    for scene in scenes:
        random = np.random.default_rng(
            [info["seed"], zlib.crc32(info["split"].encode()), scene["image_index"], 1]
        )
        place = {name: scene[name] for name in ("image_index", "image_filename", "split")}
        for entry in ask_about(scene, count, random, balance):
            entries.append(place | {"question_index": len(entries)} | entry)
    _write_json(_file(folder, "questions", info["split"]), {"info": info, "questions": entries})
    return len(entries)


def _make(
    folder: Path, options: SynthesisOptions, chunks: list[range], workers: int
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    if workers == 1:
        for chunk in chunks:
            yield chunk.start, _make_chunk(folder, options, chunk)
        return
    # An OpenGL context does not survive a fork, hence fresh processes.
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(options,)
    ) as pool:
        waiting = {pool.submit(_make_chunk, folder, options, chunk): chunk.start for chunk in chunks}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_renderers: dict[tuple[int, int], Renderer] = {}  # one a process and size: a context is dear to make


def _start_worker(options: SynthesisOptions) -> None:
    _renderer(options.width, options.height)


def _renderer(width: int, height: int) -> Renderer:
    for size in [size for size in _renderers if size != (width, height)]:
        _renderers.pop(size).close()
    if (width, height) not in _renderers:
        _renderers[width, height] = Renderer(width, height)
    return _renderers[width, height]


def _make_chunk(folder: Path, options: SynthesisOptions, indices: range) -> list[dict[str, Any]]:
    renderer = _renderer(options.width, options.height)
    return [_make_scene(folder, options, index, renderer) for index in indices]


def _make_scene(folder: Path, options: SynthesisOptions, index: int, renderer: Renderer) -> dict[str, Any]:
    random = np.random.default_rng([options.seed, zlib.crc32(options.split.encode()), index])
    scene, labels = visible_scene(random, renderer, options.look)
    picture = renderer.picture(scene)
    name = f"CLEVR_{options.split}_{index:06d}.png"
    # Level 1: twice as fast as the default, and a tenth larger.
    Image.fromarray(picture).save(folder / "images" / options.split / name, compress_level=1)
    grammar = SceneGrammar(scene, random)
    captions = _distinct(grammar.caption, options.captions)
    expressions = _distinct(grammar.referring_expression, options.expressions)
    place = {"image_index": index, "image_filename": name}
    return {
        "scene": place | {"split": options.split} | scene_entry(scene, labels),
        "captions": [place | _sentence_entry(sentence) for sentence in captions],
        "refexps": [place | _sentence_entry(sentence) for sentence in expressions],
    }


def visible_scene(
    random: np.random.Generator, renderer: Renderer, look: Look = "home"
) -> tuple[Scene, np.ndarray]:
    """Draw scenes until one has every object inside the picture and seen well enough; it and its labels."""
    count = int(random.integers(MIN_OBJECTS, MAX_OBJECTS + 1))  # crowded scenes are not to become rare
    while True:
        scene = sample_scene(random, count, count, look)
        labels = renderer.labels(scene)
        if _all_visible(labels, count):
            return scene, labels


def _all_visible(labels: np.ndarray, count: int) -> bool:
    height, width = labels.shape
    if (visible_pixels(labels, count) < VISIBLE_SHARE * height * width).any():
        return False
    boxes = [box for box in visible_boxes(labels, count) if box is not None]
    return all(x0 > 0 and y0 > 0 and x1 < width and y1 < height for x0, y0, x1, y1 in boxes)


def scene_entry(scene: Scene, labels: np.ndarray) -> dict[str, Any]:
    """What CLEVR's scene files say of a scene, and the box of each object's visible pixels."""
    height, width = labels.shape
    positions = np.array([thing.position for thing in scene.objects])
    pixels = scene.camera.project(positions, width, height)
    return {
        "objects": [
            {
                "color": thing.color,
                "size": thing.size,
                "shape": thing.shape,
                "material": thing.material,
                "rotation": thing.rotation,
                "3d_coords": list(thing.position),
                "pixel_coords": [round(float(column)), round(float(row)), float(depth)],
                "bbox": box,
            }
            for thing, box, (column, row, depth) in zip(
                scene.objects, visible_boxes(labels, len(scene.objects)), pixels, strict=True
            )
        ],
        "relationships": scene.relationships(),
        "directions": {name: list(vector) for name, vector in scene.camera.directions().items()},
    }


def _sentence_entry(sentence: Sentence) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "text": sentence.text,
        "phrases": [{"spans": [list(span)], "objects": list(objects)} for span, objects in sentence.phrases],
    }
    return entry if sentence.target is None else entry | {"target": sentence.target}


def _distinct(make: Callable[[], Sentence | None], count: int) -> list[Sentence]:
    sentences = {sentence.text: sentence for _ in range(count) if (sentence := make()) is not None}
    return list(sentences.values())


def _file(folder: Path, kind: str, split: str) -> Path:
    return folder / kind / f"CLEVR_{split}_{kind}.json"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as file:
        file.write_text(json.dumps(content))
