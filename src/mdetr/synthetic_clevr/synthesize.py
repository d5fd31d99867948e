"""Synthesis of scenes, images and texts, written in CLEVR's file layout."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mdetr.data.sources.json_lists import iterate_list
from mdetr.errors import InvalidInputError
from mdetr.files import atomic_write
from mdetr.processes import end_with_parent
from mdetr.synthetic_clevr.appearance import Look
from mdetr.synthetic_clevr.captions import SceneGrammar, Sentence
from mdetr.synthetic_clevr.questions import AnswerBalance, sample_questions
from mdetr.synthetic_clevr.rendering import Renderer, visible_boxes, visible_pixels
from mdetr.synthetic_clevr.scenes import (
    MAX_OBJECTS,
    MIN_OBJECTS,
    Condition,
    Scene,
    check_objects,
    sample_scene,
)

CHUNK = 25  # scenes that a worker makes before it reports
VISIBLE_FRACTION = 200 / (480 * 320)  # of the image that each object must at least cover, as in CLEVR
VERSION = "2"


@dataclass(frozen=True)
class SynthesisOptions:
    """Settings of a synthetic split.

    Attributes:
        split: Name of the split.
        seed: Seed; the same seed gives the same files.
        width: Width of the images, in pixels.
        height: Height of the images, in pixels.
        captions: Maximum number of captions per scene.
        phrases: Maximum number of phrases per caption, without those of relations.
        expressions: Maximum number of referring expressions per scene.
        questions: Maximum number of questions per scene.
        look: "home", or "unseen" for cameras, lights and grounds that "home" never has.
        min_objects: Minimum number of objects per scene.
        max_objects: Maximum number of objects per scene.
        condition: Condition of CLEVR-CoGenT, which limits the colors of cubes and cylinders; None for all.
    """

    split: str = "train"
    seed: int = 0
    width: int = 240
    height: int = 160
    captions: int = 4
    phrases: int = 4
    expressions: int = 3
    questions: int = 0
    look: Look = "home"
    min_objects: int = MIN_OBJECTS
    max_objects: int = MAX_OBJECTS
    condition: Condition | None = None


def synthesize(
    output: str | Path,
    num_scenes: int,
    options: SynthesisOptions,
    workers: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> Path:
    """Write a split of scenes; the same seed gives the same files for any number of workers.

    Images go to images/SPLIT, the rest to scenes, captions, refexps and questions, which appear at the end.

    Args:
        output: Folder to write to; it may contain other splits.
        num_scenes: Number of scenes.
        options: Settings of the split.
        workers: Number of processes, each with its own renderer.
        on_progress: Called with the number of scenes finished since the last call.

    Returns:
        The folder.

    Raises:
        InvalidInputError: The split already exists, or a number is not positive.
        MissingDependencyError: MuJoCo or an off-screen OpenGL is missing.
    """
    # Check the call, and that rendering works, before any folder is created
    folder = Path(output)
    if num_scenes < 1 or workers < 1:
        raise InvalidInputError(
            f"Expected at least 1 scene and 1 worker, got {num_scenes} and {workers}; choose larger numbers."
        )
    check_objects(options.min_objects, options.max_objects)
    if _file(folder, "scenes", options.split).exists():
        raise InvalidInputError(
            f"{folder} already has a split {options.split!r}; choose another with --split, or another folder."
        )
    _start_worker(options)

    # Make the scenes, in chunks that finish in any order
    (folder / "images" / options.split).mkdir(parents=True, exist_ok=True)
    chunks = [range(start, min(start + CHUNK, num_scenes)) for start in range(0, num_scenes, CHUNK)]
    finished: dict[int, list[dict[str, Any]]] = {}
    for first, entries in _make_chunks(folder, options, chunks, min(workers, len(chunks))):
        finished[first] = entries
        if on_progress is not None:
            on_progress(len(entries))

    # Collect their entries in order
    scenes, captions, expressions = [], [], []
    for first in sorted(finished):
        for entry in finished[first]:
            scenes.append(entry["scene"])
            captions += entry["captions"]
            expressions += entry["refexps"]

    # Write the files; the scenes come last, and mark the split as complete
    info = {"split": options.split, "version": VERSION, "seed": options.seed}
    if options.questions:
        _write_question_file(folder, info, scenes, options.questions)
    for kind, entries in (("captions", captions), ("refexps", expressions), ("scenes", scenes)):
        _write_json(_file(folder, kind, options.split), {"info": info, kind: entries})
    return folder


def write_questions(folder: Path, split: str, questions: int, seed: int = 0) -> int:
    """Write questions about the scenes of an existing split, in CLEVR's layout.

    Args:
        folder: Folder of the split.
        split: Name of the split.
        questions: Maximum number of questions per scene.
        seed: Seed; the same seed gives the same questions.

    Returns:
        Number of questions.

    Raises:
        InvalidInputError: The scenes are missing, or questions already exist.
    """
    file = _file(folder, "questions", split)
    if file.exists():
        raise InvalidInputError(f"{file} already exists; remove it first.")
    scenes = list(iterate_list(_file(folder, "scenes", split), "scenes"))
    info = {"split": split, "version": VERSION, "seed": seed}
    return _write_question_file(folder, info, scenes, questions)


def _write_question_file(
    folder: Path, info: dict[str, Any], scenes: Sequence[dict[str, Any]], count: int
) -> int:
    entries: list[dict[str, Any]] = []
    balance = AnswerBalance()
    for scene in scenes:
        random = np.random.default_rng(
            [info["seed"], zlib.crc32(info["split"].encode()), scene["image_index"], 1]
        )
        image = {name: scene[name] for name in ("image_index", "image_filename", "split")}
        for entry in sample_questions(scene, count, random, balance):
            entries.append(image | {"question_index": len(entries)} | entry)
    _write_json(_file(folder, "questions", info["split"]), {"info": info, "questions": entries})
    return len(entries)


def _make_chunks(
    folder: Path, options: SynthesisOptions, chunks: list[range], workers: int
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The first index and the entries of each chunk, as they finish."""
    if workers == 1:
        for chunk in chunks:
            yield chunk.start, _make_chunk(folder, options, chunk)
        return

    # Start fresh processes, since an OpenGL context does not survive a fork
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(options,)
    ) as pool:
        starts = {pool.submit(_make_chunk, folder, options, chunk): chunk.start for chunk in chunks}
        try:
            for future in as_completed(starts):
                yield starts[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_renderers: dict[tuple[int, int], Renderer] = {}  # kept in each process: a context takes long to create


def _start_worker(options: SynthesisOptions) -> None:
    end_with_parent()
    _renderer(options.width, options.height)


def _renderer(width: int, height: int) -> Renderer:
    """This process's renderer; one of another size is closed."""
    for size in tuple(_renderers):
        if size != (width, height):
            _renderers.pop(size).close()
    if (width, height) not in _renderers:
        _renderers[width, height] = Renderer(width, height)
    return _renderers[width, height]


def _make_chunk(folder: Path, options: SynthesisOptions, indices: range) -> list[dict[str, Any]]:
    renderer = _renderer(options.width, options.height)
    return [_make_scene(folder, options, index, renderer) for index in indices]


def _make_scene(folder: Path, options: SynthesisOptions, index: int, renderer: Renderer) -> dict[str, Any]:
    """Write the image of a scene; returns its entries of all files."""
    # Render
    random = np.random.default_rng([options.seed, zlib.crc32(options.split.encode()), index])
    scene, labels = visible_scene(
        random, renderer, options.look, options.min_objects, options.max_objects, options.condition
    )
    picture = renderer.picture(scene)
    name = f"CLEVR_{options.split}_{index:06d}.png"
    file = folder / "images" / options.split / name
    Image.fromarray(picture).save(file, compress_level=1)  # twice as fast as the default, a tenth larger

    # Describe
    grammar = SceneGrammar(scene, random)
    captions = _distinct(partial(grammar.caption, options.phrases), options.captions)
    expressions = _distinct(grammar.referring_expression, options.expressions)
    image = {"image_index": index, "image_filename": name}
    return {
        "scene": image | {"split": options.split} | scene_entry(scene, labels),
        "captions": [image | _sentence_entry(sentence) for sentence in captions],
        "refexps": [image | _sentence_entry(sentence) for sentence in expressions],
    }


def visible_scene(
    random: np.random.Generator,
    renderer: Renderer,
    look: Look = "home",
    min_objects: int = MIN_OBJECTS,
    max_objects: int = MAX_OBJECTS,
    condition: Condition | None = None,
) -> tuple[Scene, np.ndarray]:
    """Sample scenes until every object is inside the image and visible enough.

    Args:
        random: Source of randomness.
        renderer: Renderer.
        look: Range of appearances.
        min_objects: Minimum number of objects.
        max_objects: Maximum number of objects.
        condition: Condition of CLEVR-CoGenT; None for all colors of all shapes.

    Returns:
        The scene, and its labels as of `Renderer.labels`.
    """
    # Choose the number of objects first, to keep crowded scenes as frequent as others
    count = int(random.integers(min_objects, max_objects + 1))
    while True:
        scene = sample_scene(random, count, count, look, condition)
        labels = renderer.labels(scene)
        if _all_visible(labels, count):
            return scene, labels


def _all_visible(labels: np.ndarray, count: int) -> bool:
    height, width = labels.shape
    if (visible_pixels(labels, count) < VISIBLE_FRACTION * height * width).any():
        return False
    on_border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return bool((on_border < 0).all())


def scene_entry(scene: Scene, labels: np.ndarray) -> dict[str, Any]:
    """Entry of a scene in CLEVR's scene files, with the boxes of the visible pixels.

    Args:
        scene: The scene.
        labels: (height, width), index of the object in each pixel, or -1.

    Returns:
        Objects, relationships and directions.
    """
    # Objects
    height, width = labels.shape
    positions = np.array([thing.position for thing in scene.objects])
    pixels = scene.camera.project(positions, width, height)
    boxes = visible_boxes(labels, len(scene.objects))
    objects = []
    for thing, box, (column, row, depth) in zip(scene.objects, boxes, pixels, strict=True):
        objects.append(
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
        )

    # Relations
    return {
        "objects": objects,
        "relationships": scene.relationships(),
        "directions": {name: list(vector) for name, vector in scene.camera.directions().items()},
    }


def _sentence_entry(sentence: Sentence) -> dict[str, Any]:
    phrases = [{"spans": [list(span)], "objects": list(objects)} for span, objects in sentence.phrases]
    entry: dict[str, Any] = {"text": sentence.text, "phrases": phrases}
    if sentence.target is not None:
        entry["target"] = sentence.target
    return entry


def _distinct(sample: Callable[[], Sentence | None], count: int) -> list[Sentence]:
    """The distinct sentences of `count` samples."""
    sentences = {}
    for _ in range(count):
        sentence = sample()
        if sentence is not None:
            sentences[sentence.text] = sentence
    return list(sentences.values())


def _file(folder: Path, kind: str, split: str) -> Path:
    return folder / kind / f"CLEVR_{split}_{kind}.json"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as file:
        file.write_text(json.dumps(content))
