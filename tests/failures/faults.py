"""Faults at chosen moments of a command, in a real process."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tests.processes import Process

FAULTY = Path(__file__).with_name("faulty.py")

Action = Literal["none", "kill", "cut", "full", "clock", "slow"]
"""What happens: nothing, SIGKILL, SIGXFSZ in the middle of a write, a full disk, a clock that is set back, a
disk that is slow from then on.
"""


@dataclass(frozen=True)
class Fault:
    """A fault at a moment.

    action: what happens.
    moment: name of an event, as `moments_of` lists them; None for none.
    limit: size that no file may exceed from then on, in bytes, for "cut" and "full".
    """

    action: Action = "none"
    moment: str | None = None
    limit: int = 0

    def __str__(self) -> str:
        limit = f" (files of at most {self.limit:,} bytes)" if self.limit else ""
        return f"{self.action} at {self.moment}{limit}"


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, and the messages that it wrote."""

    code: int
    messages: str

    @property
    def sentence(self) -> str:
        """The last sentence of the command, without its prefix."""
        lines = [line for line in self.messages.splitlines() if line.startswith("mdetr: ")]
        return lines[-1].removeprefix("mdetr: ") if lines else ""


def start(
    fault: Fault, folder: Path, *command: object, log: Path | None = None, messages: Path | None = None
) -> Process:
    """Start a command with a fault at an event below a folder; `messages` is a named pipe that is open."""
    content = asdict(fault) | {
        "folder": str(folder),
        "log": str(log) if log else None,
        "messages": str(messages) if messages else None,
    }
    return Process(FAULTY, json.dumps(content), *command)


def run(fault: Fault, folder: Path, *command: object, log: Path | None = None) -> Ended:
    """Run a command to its end with a fault at an event below a folder.

    Args:
        fault: the fault.
        folder: its events are counted.
        command: arguments of `mdetr`.
        log: file for the names of all events.

    Returns:
        How it ended.
    """
    pipe = folder.parent / f".messages-{os.getpid()}"
    os.mkfifo(pipe)
    try:
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        code = start(fault, folder, *command, log=log, messages=pipe).wait()
        content = b""
        while part := os.read(reader, 1 << 16):
            content += part
        os.close(reader)
    finally:
        pipe.unlink()
    return Ended(code, content.decode(errors="replace"))


def moments_of(folder: Path, log: Path, *command: object) -> list[str]:
    """Run a command without a fault, and list the events below a folder in order."""
    ended = run(Fault(), folder, *command, log=log)
    assert ended.code == 0, ended.messages
    return log.read_text().splitlines()
