"""Runs the command with a fault at one moment: a child process of the tests in this folder.

A moment is an event of the file system below a folder, such as the second time that `ema.safetensors` is
renamed; Python reports these events to its audit hooks. The process is killed just before it, or the disk is
full or slow from then on, or the clock jumps back.

Usage: faulty.py FAULT COMMAND..., where FAULT is JSON; see `tests.failures.faults.Fault`.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

# Number of paths among the arguments of each event
EVENTS = {"open": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.link": 2}
_SLOW = 0.05  # seconds that each event takes on a slow disk
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_TEMPORARY = re.compile(r"\.[0-9a-f]{12}")
_EVENT_FILE = re.compile(r"(events\.out\.tfevents)\S*")  # its name has the time
_STORE_NAME = re.compile(r"(stores/[\w-]+)-[0-9a-f]{8,}")


class Faults:
    """Audit hook that counts the events below a folder, and makes the fault happen at one of them."""

    def __init__(self, fault: dict[str, Any]) -> None:
        self.folder = os.path.realpath(fault["folder"])
        self.moment, self.action, self.limit = fault["moment"], fault["action"], fault["limit"]
        self.counts: dict[str, int] = {}
        self.delay = 0.0  # seconds
        self.log = os.open(fault["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if fault["log"] else None
        self.process = os.getpid()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or os.getpid() != self.process:
            return
        moment = self._name(event, arguments)
        if moment is None:
            return
        self.counts[moment] = number = self.counts.get(moment, 0) + 1
        name = f"{moment} #{number}"
        if self.log is not None:
            os.write(self.log, f"{name}\n".encode())
        if name == self.moment:
            self.moment = None
            self._happen()
        time.sleep(self.delay)

    def _name(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        """Name an event below the folder, with what changes from run to run left out; None for any other."""
        kind = event.removeprefix("os.")
        if event == "open":
            kind = "write" if isinstance(arguments[2], int) and arguments[2] & _WRITING else "read"
        names = []
        for path in arguments[: EVENTS[event]]:
            if not isinstance(path, str | bytes):
                return None
            relative = os.path.relpath(os.path.abspath(os.fsdecode(path)), self.folder)
            if relative.startswith(".."):
                return None
            relative = _TEMPORARY.sub(".TEMPORARY", relative)
            relative = _STORE_NAME.sub(r"\1-VERSION", relative)
            names.append(_EVENT_FILE.sub(r"\1", relative))
        return f"{kind} {' -> '.join(names)}"

    def _happen(self) -> None:
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.action == "clock":
            real = time.time
            time.time = lambda: real() - 40 * 24 * 3600
        elif self.action == "slow":
            self.delay = _SLOW
        else:
            # The kernel writes no file beyond the limit: an error, or the end in the middle of the write
            if self.action == "cut":
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (self.limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
            )


def announce_writes() -> None:
    """Let writers that open their files without Python report it as an event, too."""
    import pyarrow.parquet
    import safetensors.torch
    import torch

    def announced(writer: Callable[..., Any], position: int) -> Callable[..., Any]:
        def write(*arguments: Any, **options: Any) -> Any:
            sys.audit("open", os.fspath(arguments[position]), None, os.O_WRONLY)
            return writer(*arguments, **options)

        return write

    for owner, name in (
        (safetensors.torch, "serialize_file"),
        (torch, "save"),
        (pyarrow.parquet.ParquetWriter, "__init__"),
    ):
        setattr(owner, name, announced(getattr(owner, name), 1))


def main() -> None:
    fault = json.loads(sys.argv.pop(1))
    if fault["messages"]:
        # A pipe takes messages also when no file can be written
        pipe = os.open(fault["messages"], os.O_WRONLY)
        os.dup2(pipe, 1)
        os.dup2(pipe, 2)
        sys.stdout, sys.stderr = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(2), "w")
    announce_writes()
    sys.addaudithook(Faults(fault))

    from mdetr.cli.main import run

    run()


if __name__ == "__main__":
    main()
