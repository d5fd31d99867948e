"""Metrics of the server, in the text format of Prometheus.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate

from mdetr.server.jobs import Outcome

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Histogram:
    """Counts of values in ranges.

    Args:
        bounds: Upper bounds of the ranges, ascending; a last range without a bound is added.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str = "") -> Iterator[str]:
        """Lines of the text format.

        Args:
            name: Name of the metric.
            labels: Its labels, such as `path="/ground"`.

        Yields:
            A cumulative count for each range, then the sum and the count of all values.
        """
        comma = "," if labels else ""
        bounds = [f"{bound:g}" for bound in self._bounds] + ["+Inf"]
        for bound, count in zip(bounds, accumulate(self._counts), strict=True):
            yield f'{name}_bucket{{{labels}{comma}le="{bound}"}} {count}'
        braces = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{braces} {self._sum:g}"
        yield f"{name}_count{braces} {sum(self._counts)}"


class Metrics:
    """Counts of requests, their durations, batches and encoded images since the start of the server.

    Attributes:
        in_progress: Number of requests that are being answered.
    """

    def __init__(self) -> None:
        self.in_progress = 0
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, Histogram] = {}
        self._batch_sizes = Histogram(_BATCH_SIZES)
        self._images: Counter[str] = Counter()

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered.

        Args:
            path: Path of the route, not that of the request, to which requests can add no metrics.
            status: Status of the response.
            seconds: Time from the first byte of the request to the last one of the response.
        """
        self._requests[path, status] += 1
        self._seconds.setdefault(path, Histogram(_SECONDS)).observe(seconds)

    def count_outcome(self, outcome: Outcome) -> None:
        """Count what the worker did for a request."""
        self._batch_sizes.observe(outcome.batch_size)
        if outcome.content is not None:
            self._images["cache" if outcome.is_cached else "encoder"] += 1

    def render(self) -> str:
        """Write all metrics in the text format."""
        # Requests
        lines = [
            "# HELP mdetr_requests_total Requests by path and status.",
            "# TYPE mdetr_requests_total counter",
        ]
        for (path, status), count in sorted(self._requests.items()):
            lines.append(f'mdetr_requests_total{{path="{path}",status="{status}"}} {count}')

        # Durations
        lines += [
            "# HELP mdetr_request_seconds Duration of requests by path.",
            "# TYPE mdetr_request_seconds histogram",
        ]
        for path, histogram in sorted(self._seconds.items()):
            lines += histogram.lines("mdetr_request_seconds", f'path="{path}"')

        # Work of the model
        lines += [
            "# HELP mdetr_requests_in_progress Requests that are being answered.",
            "# TYPE mdetr_requests_in_progress gauge",
            f"mdetr_requests_in_progress {self.in_progress}",
            "# HELP mdetr_batch_size Number of requests in the batch of each request.",
            "# TYPE mdetr_batch_size histogram",
            *self._batch_sizes.lines("mdetr_batch_size"),
            "# HELP mdetr_images_total Images by where their features came from.",
            "# TYPE mdetr_images_total counter",
        ]
        for source in ("cache", "encoder"):
            lines.append(f'mdetr_images_total{{source="{source}"}} {self._images[source]}')
        return "\n".join(lines) + "\n"
