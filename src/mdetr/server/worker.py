"""The worker of the server: a process of its own that holds the model, started and supervised by LitServe."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import time
import uuid
from queue import Empty
from typing import TYPE_CHECKING, Any

from litserve import LitAPI
from litserve.loops import LitLoop
from litserve.specs.base import LitSpec
from litserve.utils import LitAPIStatus, LoopResponseType, ResponseBufferItem

from mdetr.errors import MdetrError
from mdetr.server.config import ServerConfig
from mdetr.server.jobs import Job, Outcome

if TYPE_CHECKING:
    from mdetr.server.predictor import BatchPredictor

_CHECK_SECONDS = 1.0  # after this time without an outcome, the worker is checked
_WAIT_SECONDS = 0.1  # a job that comes this long after the death of a worker may be lost with it
_STOP = (None, None, None, None)  # what LitServe puts into the queue of a worker that has to stop

logger = logging.getLogger(__name__)


class WorkerError(RuntimeError):
    """The worker died while it had a job."""


class JobQueue(LitSpec):
    """Queue of jobs from the HTTP process to the worker.

    LitServe connects it to its queues: one of all requests, and one of the responses for each HTTP process.
    """

    def __init__(self) -> None:
        super().__init__()
        self.api_path = "/predict"  # LitServe's name of the queue; no path of the server

    async def submit(self, job: Job) -> Outcome:
        """Run a job in the worker.

        Args:
            job: The job.

        Returns:
            Its outcome.

        Raises:
            WorkerError: The worker died; another one is started.
            RuntimeError: The model failed.
        """
        # Make a slot for the outcome, which LitServe fills
        uid = str(uuid.uuid4())
        item = ResponseBufferItem(event=asyncio.Event())
        self.response_buffer[uid] = item
        try:
            # Send the job in a thread, because a large image takes a while
            entry = (self.response_queue_id, uid, time.monotonic(), job)
            await asyncio.to_thread(self.request_queue.put, entry)

            # Wait for the outcome, as long as the worker that took the job is alive
            while not item.event.is_set():
                try:
                    await asyncio.wait_for(item.event.wait(), _CHECK_SECONDS)
                except TimeoutError:
                    if item.worker_id is not None and not _is_alive(item.worker_id):
                        raise WorkerError from None
        finally:
            self.response_buffer.pop(uid, None)
        outcome, status = item.response
        if status != LitAPIStatus.OK:
            raise RuntimeError("The model failed; the log of the worker has the traceback.")
        return outcome


class BatchLoop(LitLoop):
    """Takes all waiting jobs, up to the size of a batch, and runs them together.

    LitServe's own loop for batches polls its queue all the time, and delays a request until a batch is full;
    this one waits for a job, and then takes those that arrived while the model was busy.
    """

    @property
    def worker_id(self) -> int:
        """Number of this process, by which the other process checks whether it is alive."""
        return os.getpid()

    def run(
        self,
        lit_api: Any,
        device: str,
        worker_id: int,
        request_queue: Any,
        transport: Any,
        workers_setup_status: Any,
        callback_runner: Any,
    ) -> None:
        """Process one batch of jobs; the signature is LitServe's."""
        # Wait for jobs, and leave out those that have passed their time limit
        entries = _take_entries(request_queue, lit_api.max_batch_size)
        oldest = time.monotonic() - lit_api.request_timeout
        entries = [entry for entry in entries if entry[2] >= oldest]
        if not entries:
            return
        for consumer, uid, _, _ in entries:
            self.put_response(transport, consumer, uid, (), LitAPIStatus.START, LoopResponseType.REGULAR)

        self._process(lit_api, entries, transport)

    def _process(self, lit_api: Any, entries: list[Any], transport: Any) -> None:
        """Predict, and send the outcomes; after a failure, each job is run alone."""
        try:
            outcomes = lit_api.predict([job for _, _, _, job in entries])
        except Exception as error:
            logger.exception("A batch of %d jobs failed.", len(entries))
            if len(entries) == 1:
                ((consumer, uid, _, _),) = entries
                self.put_error_response(transport, consumer, uid, RuntimeError(str(error)))
                return
            for entry in entries:
                self._process(lit_api, [entry], transport)
            return
        for (consumer, uid, _, _), outcome in zip(entries, outcomes, strict=True):
            self.put_response(transport, consumer, uid, outcome, LitAPIStatus.OK, LoopResponseType.REGULAR)


class MdetrAPI(LitAPI):
    """What LitServe runs in the worker: the model of the server.

    Args:
        config: Settings of the server.
        queue: Queue of the jobs.
    """

    def __init__(self, config: ServerConfig, queue: JobQueue) -> None:
        super().__init__(max_batch_size=config.batch_size, loop=BatchLoop(), spec=queue)
        self._config = config
        self._predictor: BatchPredictor | None = None

    def setup(self, device: str) -> None:
        """Load the model; LitServe's choice of a device does not count, since the settings name it."""
        # Only the worker loads these; the process for HTTP starts sooner, and takes less memory
        from mdetr.inference.grounder import Mdetr
        from mdetr.server.predictor import BatchPredictor

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches all processes; the first one ends them
        try:
            model = Mdetr.from_pretrained(self._config.model, device=self._config.device)
        except MdetrError as error:
            print(f"mdetr: {error}", file=sys.stderr, flush=True)
            logging.getLogger("litserve").setLevel(logging.CRITICAL)  # it would print the traceback
            raise
        self._predictor = BatchPredictor(model, self._config.cached_images)

    def predict(self, x: list[Job], **_: Any) -> list[Outcome]:
        """Predict for several jobs."""
        assert self._predictor is not None
        return self._predictor.predict(x)


def _is_alive(process: int) -> bool:
    if sys.platform == "win32":  # where there is no signal that does nothing
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _take_entries(request_queue: Any, count: int) -> list[Any]:
    """Wait for an entry, and take up to `count` of those that are in the queue.

    Args:
        request_queue: Queue of the requests.
        count: Maximum number of entries.

    Returns:
        The entries; none if there was none for a while.

    Raises:
        SystemExit: The server has stopped.
    """
    entries: list[Any] = []
    try:
        entries.append(request_queue.get(timeout=_WAIT_SECONDS))
        while len(entries) < count:
            entries.append(request_queue.get_nowait())
    except Empty:
        pass
    except (EOFError, OSError):  # the queue has gone with the server
        raise SystemExit from None
    parent = multiprocessing.parent_process()
    if _STOP in entries or (parent is not None and not parent.is_alive()):
        raise SystemExit
    return entries
