"""How near making whole scenes comes to only drawing them.

    python benchmarks/clevr_rendering.py [--scenes 500] [--workers 2]

The floor is a bare loop: each process draws the same finished scene and its labels again and again. Making a
scene also draws candidates until every object is well seen, writes the picture, and finds true sentences.
Prints scenes a second of both and their ratio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from mdetr.synthetic_clevr.rendering import Renderer
from mdetr.synthetic_clevr.synthesize import SynthesisOptions, synthesize, visible_scene

WIDTH, HEIGHT = 240, 160


def draw(count: int) -> float:
    """Seconds to draw one scene and its labels `count` times, start-up not counted."""
    renderer = Renderer(WIDTH, HEIGHT)
    scene, _ = visible_scene(np.random.default_rng(0), renderer)
    start = time.perf_counter()
    for _ in range(count):
        renderer.render(scene)
    return time.perf_counter() - start


def floor(scenes: int, workers: int) -> float:
    """Scenes a second that `workers` processes draw."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return scenes / max(pool.map(draw, [scenes // workers] * workers))


def whole(scenes: int, workers: int) -> float:
    """Scenes a second from the command's own code, the processes' start-up included."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        synthesize(folder, scenes, SynthesisOptions(width=WIDTH, height=HEIGHT), workers)
        return scenes / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    drawn, made = floor(arguments.scenes, arguments.workers), whole(arguments.scenes, arguments.workers)
    print(f"drawn only {drawn:6.1f} scenes/s")
    print(f"made whole {made:6.1f} scenes/s, {made / drawn:.2f} of the floor")


if __name__ == "__main__":
    main()
