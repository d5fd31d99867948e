from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mdetr.errors import InvalidInputError
from mdetr.labeling import plan as plans
from mdetr.labeling.class_phrases import ClassPhrase
from mdetr.labeling.engines import ProcessGroup, label_locally, label_with_ray
from mdetr.labeling.image_list import ImageReference
from mdetr.labeling.plan import LabelPlan, PlannedImage
from tests.labeling.conftest import SCENES, label_settings


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> list[PlannedImage]:
    """24 images, in parts of two."""
    monkeypatch.setattr(plans, "IMAGES_PER_PART", 2)
    files = sorted(SCENES.glob("*.png")) * 3
    return [PlannedImage(ImageReference(f"{n}.png", str(file))) for n, file in enumerate(files)]


def test_a_cluster_that_loses_a_machine_gives_the_rows_of_one_process(
    small_parts: list[PlannedImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    from ray.cluster_utils import Cluster

    settings = label_settings(SCENES, phrases=(ClassPhrase("cube", "cube"),))
    plan = LabelPlan.create(tmp_path / "ray", settings, small_parts)
    progress: list[int] = []

    # Start two nodes, and kill one when the first results are there
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:

        def on_progress(images_done: int) -> None:
            if not progress:
                cluster.remove_node(second, allow_graceful=False)
            progress.append(images_done)

        label_with_ray(plan, num_workers=2, device="cpu", on_progress=on_progress)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert progress[0] < progress[-1] == 24

    alone = LabelPlan.create(tmp_path / "alone", settings, small_parts)
    label_locally(alone, ProcessGroup(), "cpu")
    for part in range(plan.num_parts):
        rows = [pq.read_table(one.result_file(part)).to_pylist() for one in (plan, alone)]
        assert rows[0] == rows[1]


def test_the_position_of_a_process_is_that_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert ProcessGroup.from_environment() == ProcessGroup(0, 1, 0)
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert ProcessGroup.from_environment() == ProcessGroup(5, 8, 1)


@pytest.mark.parametrize(("rank", "world_size"), [("x", "2"), ("2", "2")])
def test_a_contradictory_position_is_refused(
    rank: str, world_size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "RANK", rank)
    monkeypatch.setitem(os.environ, "WORLD_SIZE", world_size)
    with pytest.raises(InvalidInputError, match="RANK"):
        ProcessGroup.from_environment()
