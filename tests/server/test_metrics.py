"""Metrics in the text format of Prometheus."""

from __future__ import annotations

from mdetr.server.jobs import Outcome
from mdetr.server.metrics import Histogram, Metrics


def test_ranges_of_histograms_are_cumulative_and_include_their_bounds() -> None:
    histogram = Histogram((1, 2.5))
    for value in (0.5, 1, 2, 2.5, 100):
        histogram.observe(value)
    assert list(histogram.lines("seconds", 'path="/a"')) == [
        'seconds_bucket{path="/a",le="1"} 2',
        'seconds_bucket{path="/a",le="2.5"} 4',
        'seconds_bucket{path="/a",le="+Inf"} 5',
        'seconds_sum{path="/a"} 106',
        'seconds_count{path="/a"} 5',
    ]
    assert "batches_sum 0" in list(Histogram((1,)).lines("batches"))


def test_requests_and_outcomes_are_counted() -> None:
    metrics = Metrics()
    for status in (200, 200, 400):
        metrics.count_request("/ground", status, 0.03)
    metrics.count_outcome(Outcome({}, batch_size=4))
    metrics.count_outcome(Outcome({}, is_cached=True, batch_size=4))
    metrics.count_outcome(Outcome(None, "a sentence"))
    lines = metrics.render().splitlines()
    assert 'mdetr_requests_total{path="/ground",status="200"} 2' in lines
    assert 'mdetr_requests_total{path="/ground",status="400"} 1' in lines
    assert 'mdetr_request_seconds_bucket{path="/ground",le="0.025"} 0' in lines
    assert 'mdetr_request_seconds_bucket{path="/ground",le="0.05"} 3' in lines
    assert 'mdetr_batch_size_bucket{le="2"} 1' in lines
    assert 'mdetr_images_total{source="cache"} 1' in lines
    assert 'mdetr_images_total{source="encoder"} 1' in lines
