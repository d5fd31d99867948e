"""Locks between processes, and workers whose parent is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mdetr.processes import end_with_parent, locked

_POOL = """
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from tests.test_processes import work

if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=work.start) as pool:
        pool.submit(work).result()
"""


class _Work:
    """Prints the number of the worker's process, and goes on for long."""

    start = staticmethod(end_with_parent)

    def __call__(self) -> None:
        print(os.getpid(), flush=True)
        time.sleep(600)

    def __reduce__(self) -> str:
        return "work"


work = _Work()


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "pool.py"
    program.write_text(_POOL)
    root = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((root, os.environ.get("PYTHONPATH", "")))}
    parent = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert parent.stdout.read() == ""  # the worker has closed the other end, because it has ended
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # until init has collected it
            os.kill(worker, 0)
            time.sleep(0.1)
    parent.stdout.close()


def test_one_process_at_a_time_has_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lock"
    with locked(file) as first, locked(file) as second:
        assert first and not second
    with locked(file) as again:
        assert again

    # A file system without locks lets everyone through
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with locked(file) as first, locked(file) as second:
        assert first and second


def test_a_process_without_a_parent_of_its_package_needs_no_watch() -> None:
    end_with_parent()
