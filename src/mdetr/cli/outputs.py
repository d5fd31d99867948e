"""Output files: checked before a model is loaded, and written while the work proceeds."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from mdetr.errors import InvalidInputError
from mdetr.files import address_name, atomic_write

STDOUT = "-"


@dataclass(frozen=True)
class Outputs:
    """Where the results of a call go.

    pictures: for each image the path of the picture for each text; empty without any.
    json_file: the file, "-" for standard output, or None. is_one: whether there is but one result.
    """

    pictures: Sequence[Sequence[Path]]
    json_file: str | None
    is_one: bool

    @property
    def is_stdout_json(self) -> bool:
        """Whether standard output is kept for JSON."""
        return self.json_file == STDOUT

    def picture(self, image: int, text: int) -> Path | None:
        """Where the picture of an image and a text goes, by their places in the call."""
        return self.pictures[image][text] if self.pictures else None


def plan_outputs(
    images: Sequence[Path | str], num_texts: int, output: str | None, json_file: str | None, has_folder: bool
) -> Outputs:
    """See where results can go, before any work is done for them.

    Args:
        images: Paths or addresses.
        num_texts: How many texts are asked of each image.
        output: The picture to write, or the folder for several.
        json_file: The file to write; "-" for standard output.
        has_folder: Whether a folder of images was named.

    Raises:
        InvalidInputError: A picture or the file cannot be written there, or would replace an image.
    """
    pictures = [] if output is None else _picture_paths(images, num_texts, output, has_folder)
    check_json_file(json_file)
    files = [path for paths in pictures for path in paths]
    if json_file not in (None, STDOUT):
        files.append(Path(json_file))  # type: ignore[arg-type]
    originals = {os.path.realpath(image) for image in images if isinstance(image, Path)}
    for file in files:
        if os.path.realpath(file) in originals:
            raise InvalidInputError(f"{file} is one of the images; name another file or folder.")
    return Outputs(pictures, json_file, len(images) == num_texts == 1)


def check_json_file(file: str | Path | None) -> None:
    """See that a JSON file can be written.

    Raises:
        InvalidInputError: It is a folder, is in none, or has the name of a picture.
    """
    if file is None or str(file) == STDOUT:
        return
    from mdetr.visualization.picture_files import is_picture_name

    path = Path(file)
    if path.is_dir() or str(file).endswith(("/", os.sep)):
        raise InvalidInputError(f"{path} is a folder; name a .json or .jsonl file in it.")
    if is_picture_name(path):
        raise InvalidInputError(f"{path} has the name of a picture; name a .json or .jsonl file.")
    if not path.parent.is_dir():
        raise InvalidInputError(f"There is no folder {path.parent} to write {path.name} to; make it first.")
    _check_writable(path.parent, path.name)


def write_json(file: str | Path, content: Any) -> None:
    """Write one value to a JSON file, or print it for "-".

    Raises:
        InvalidInputError: The file could not be written.
    """
    with JsonWriter(str(file), is_one=True) as writer:
        writer.add(content)


class JsonWriter:
    """Writes entries to a file that is valid JSON whenever somebody reads it, whatever stops the program.

    One entry is an object, several are a list; a .jsonl file has an entry on each line. An older file is
    replaced when the first entry comes. For "-" it prints to standard output, where the list ends with the
    context; each entry ends its line there, since messages may come between two in the same terminal.

    Args:
        file: The path, or "-"; None writes nothing.
        is_one: Whether there is but one entry.
    """

    def __init__(self, file: str | None, is_one: bool = False) -> None:
        self._is_off = file is None
        self.path = Path(file or "")
        self._is_stream = file == STDOUT or (self.path.exists() and not self.path.is_file())
        self._file: Any = None
        self._indent: int | None = 1
        self._is_list = not is_one
        self._head, self._separator, self._tail = ("", "", "\n") if is_one else ("[\n", ",\n", "\n]\n")
        if file != STDOUT and self.path.suffix.lower() in (".jsonl", ".ndjson"):
            self._is_list = False
            self._indent, self._head, self._separator, self._tail = None, "", "\n", "\n"

    def __enter__(self) -> JsonWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        with suppress(OSError) if error is not None else nullcontext():  # the first error is the one to tell
            if self._is_stream and self._is_list:
                self._write("]\n")
        if self._file is not sys.stdout:
            self._file.close()

    def add(self, entry: Any) -> None:
        """Write an entry.

        Raises:
            InvalidInputError: It could not be written; the entries before it are kept.
        """
        if self._is_off:
            return
        text = json.dumps(entry, indent=self._indent)
        try:
            if self._is_stream:
                self._print(text)
            elif self._file is None:
                with atomic_write(self.path) as file:
                    file.write_text(self._head + text + self._tail, encoding="ascii")
                self._file = open(self.path, "r+b", buffering=0)  # noqa: SIM115 (closed with the context)
            else:
                self._append(text)
        except BrokenPipeError:
            raise
        except OSError as error:
            place = "standard output" if str(self.path) == STDOUT else self.path
            raise InvalidInputError(
                f"The results could not be written to {place} ({error.strerror or error}); make room, or "
                "name another file."
            ) from None

    def _print(self, text: str) -> None:
        start = "" if not self._is_list else self._head if self._file is None else ",\n"
        if self._file is None:
            is_stdout = str(self.path) == STDOUT
            self._file = sys.stdout if is_stdout else open(self.path, "wb", buffering=0)  # noqa: SIM115
        self._write(f"{start}{text}\n")

    def _write(self, text: str) -> None:
        self._file.write(text if self._file is sys.stdout else text.encode("ascii"))
        self._file.flush()

    def _append(self, text: str) -> None:
        """Put an entry before the end of the file in one step, or leave the file as it was."""
        size = self._file.seek(0, os.SEEK_END)
        end = size - len(self._tail)
        rest = memoryview((self._separator + text + self._tail).encode("ascii"))
        try:
            self._file.seek(end)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(size)
            self._file.seek(end)
            self._file.write(self._tail.encode("ascii"))
            raise


def _picture_paths(
    images: Sequence[Path | str], num_texts: int, output: str, has_folder: bool
) -> list[list[Path]]:
    """For each image the path of the picture for each text: `output` itself for one, else in that folder."""
    from mdetr.visualization.picture_files import check_picture_name, is_picture_name

    path = Path(output)
    count = len(images) * num_texts
    is_folder = output.endswith(("/", os.sep)) or path.is_dir()
    if count == 1 and not is_folder and (is_picture_name(path) or not has_folder):
        check_picture_name(path)
        check_folder(path.parent, path.name)
        return [[path]]
    if not is_folder and is_picture_name(path):
        raise InvalidInputError(
            f"{path} is the name of one picture, and there are {count} to write; name a folder, such as "
            f"{path.with_suffix('')}."
        )
    check_folder(path, "pictures")
    endings = [""] if num_texts == 1 else [f"-{number}" for number in range(1, num_texts + 1)]
    stems = [_stem(image) for image in images]
    if len(set(stems)) < len(stems):  # such as a.jpg and a.png
        stems = [_name(image) for image in images]
    paths = [[path / f"{stem}{ending}.png" for ending in endings] for stem in stems]
    if len({file for files in paths for file in files}) < count:
        raise InvalidInputError(
            f"Some of the images have the same name, so their pictures in {path} would overwrite each "
            "other; run the command once for each of their folders."
        )
    return paths


def _stem(image: Path | str) -> str:
    return Path(_name(image)).stem


def _name(image: Path | str) -> str:
    return image.name if isinstance(image, Path) else address_name(image)


def check_folder(folder: Path, what: str) -> None:
    """See that a folder is there, or can be made where it is to be.

    Args:
        folder: Where it is, or is to be.
        what: Is to be written there, for the message.

    Raises:
        InvalidInputError: It is a file, or cannot be written to.
    """
    try:
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    except OSError as error:
        raise InvalidInputError(f"{what} cannot be written to {folder} ({error.strerror}).") from None
    if not existing.is_dir():
        raise InvalidInputError(f"{existing} is a file and no folder that {what} could be written to.")
    _check_writable(existing, what)


def _check_writable(folder: Path, what: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidInputError(f"You may not write to the folder {folder}; name another for {what}.")
