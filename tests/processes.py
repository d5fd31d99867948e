"""Real processes that start in a moment, for tests of what happens between them or when one is killed.

A process that imports torch and transformers anew takes seconds before it does anything. These are forked off
a server, a process of its own that has imported what they need and has done nothing else, so that they share
no state with the tests. What must be seen in a process from its first line on (what it imports, say, or an
environment that is read meanwhile) is for `subprocess`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import mdetr

MDETR = Path(mdetr.__file__).with_name("__main__.py")
PATIENCE = 240  # seconds that a process may take

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["mdetr.cli.main", "mdetr.training.run", "mdetr.inference.grounder", "mdetr.data.combine_stores"]
)


class Process:
    """A Python program that runs in a process of its own.

    pid: its number. returncode: None as long as it runs, negative for a signal that ended it.
    output, errors: what it wrote to standard output and error, once it was waited for.
    """

    def __init__(
        self, program: Path, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it.

        Args:
            program: a Python file, such as `MDETR`, the command.
            arguments: of its command line.
            environment: what is changed in that of the tests, for what is read while it runs.
        """
        self.output = self.errors = ""
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        command = [str(program), *map(str, arguments)]
        self._process = _SERVER.Process(
            target=_main, args=(command, os.environ | dict(environment or {}), os.getcwd(), self._files)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        """Wait for its end, and return the exit code."""
        self._process.join(PATIENCE)
        self.output, self.errors = (file.read_text() if file.exists() else "" for file in self._files)
        code = self.returncode
        assert code is not None, f"it still runs after {PATIENCE} seconds: {self.errors}"
        self._folder.cleanup()
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self.returncode is None:
            self._process.kill()
            self.wait()


def run(program: Path, *arguments: object, environment: Mapping[str, str] | None = None) -> Process:
    """Run a program to its end."""
    process = Process(program, *arguments, environment=environment)
    process.wait()
    return process


def run_together(count: int, program: Path, *arguments: object) -> None:
    """Run a program in `count` processes that talk over gloo, on CPUs, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "ACCELERATE_USE_CPU": "true",
    }
    processes = [
        Process(program, *arguments, environment=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]
    try:
        codes = [process.wait() for process in processes]
        assert codes == [0] * count, "\n".join(process.errors[-3000:] for process in processes)
    finally:
        for process in processes:
            process.kill()


def _main(command: list[str], environment: Mapping[str, str], folder: str, files: list[Path]) -> None:
    """What happens in the process: it becomes like one that Python was started in."""
    import torch

    for number, file in enumerate(files, start=1):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")
