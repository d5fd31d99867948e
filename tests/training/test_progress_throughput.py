"""Throughput of a run's steps."""

from __future__ import annotations

import time

import pytest
import torch

from mdetr.training.progress import Throughput


def test_steps_are_counted_from_one_reading_to_the_next() -> None:
    throughput = Throughput()
    assert "images_per_second" not in throughput.read()
    mask = torch.zeros(4, 10, 10, dtype=torch.int64)
    mask[:, :, :8] = 1
    for _ in range(2):
        with throughput.waiting():
            time.sleep(0.01)
        throughput.count({"pixel_values": torch.zeros(4, 3, 10, 10), "pixel_mask": mask})
        time.sleep(0.01)
        throughput.end_step()
    time.sleep(0.2)  # an evaluation, which does not count
    counted = throughput.read(processes=3)
    assert counted["padding"] == pytest.approx(0.2)
    assert 3 * 8 / 0.2 < counted["images_per_second"] <= 3 * 8 / 0.04
    assert 0 < counted["data_wait"] < 1
    assert ("gpu_memory_gib" in counted) == torch.cuda.is_available()
    assert "padding" not in throughput.read()
