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
    """Where the results of a command go.

    Attributes:
        pictures: For each image, the path of the picture for each text; empty if none are drawn.
        json_file: The file, "-" for standard output, or None.
        is_one: Whether there is exactly one result.
    """

    pictures: Sequence[Sequence[Path]]
    json_file: str | None
    is_one: bool

    @property
    def is_stdout_json(self) -> bool:
        """Whether standard output is reserved for JSON."""
        return self.json_file == STDOUT

    def picture(self, image: int, text: int) -> Path | None:
        """Return the path of the picture of an image and a text, given by their indices."""
        return self.pictures[image][text] if self.pictures else None


def plan_outputs(
    images: Sequence[Path | str], num_texts: int, output: str | None, json_file: str | None, has_folder: bool
) -> Outputs:
    """Decide where the results go, and check that they can be written there.

    Args:
        images: Paths or addresses.
        num_texts: Number of texts for each image.
        output: Picture to write, or the folder for several.
        json_file: File to write; "-" for standard output.
        has_folder: Whether a folder of images was given.

    Returns:
        The paths of all outputs.

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
            raise InvalidInputError(f"{file} is one of the images; choose another file or folder.")
    return Outputs(pictures, json_file, len(images) == num_texts == 1)


def check_json_file(file: str | Path | None) -> None:
    """Check that a JSON file can be written.

    Args:
        file: Its path; "-" for standard output; None for no file.

    Raises:
        InvalidInputError: It is a folder, its folder does not exist, or it has the name of a picture.
    """
    if file is None or str(file) == STDOUT:
        return
    from mdetr.visualization.picture_files import is_picture_name

    path = Path(file)
    if path.is_dir() or str(file).endswith(("/", os.sep)):
        raise InvalidInputError(f"{path} is a folder; choose a .json or .jsonl file in it.")
    if is_picture_name(path):
        raise InvalidInputError(f"{path} has the name of a picture; choose a .json or .jsonl file.")
    if not path.parent.is_dir():
        raise InvalidInputError(f"There is no folder {path.parent} to write {path.name} to; create it first.")
    _check_writable(path.parent, path.name)


def write_json(file: str | Path, content: Any) -> None:
    """Write one value to a JSON file, or print it for "-".

    Args:
        file: Its path, or "-".
        content: The value.

    Raises:
        InvalidInputError: The file could not be written.
    """
    with JsonWriter(str(file), is_one=True) as writer:
        writer.add(content)


class JsonWriter:
    """Writes entries one by one to a file that is valid JSON at any moment, whatever stops the program.

    One entry is written as an object, several as a list; a .jsonl file has an entry on each line. An older
    file is replaced by the first entry. With "-" it prints to standard output, where the list ends with the
    context; each entry ends its line there, since messages may appear between two in the same terminal.

    Args:
        file: The path, or "-"; None to write nothing.
        is_one: Whether there is exactly one entry.
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
        with suppress(OSError) if error is not None else nullcontext():  # the first error is reported
            if self._is_stream and self._is_list:
                self._write("]\n")
        if self._file is not sys.stdout:
            self._file.close()

    def add(self, entry: Any) -> None:
        """Write an entry.

        Args:
            entry: Anything that JSON can hold.

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
            target = "standard output" if str(self.path) == STDOUT else self.path
            raise InvalidInputError(
                f"The results could not be written to {target} ({error.strerror or error}); free some space, "
                "or choose another file."
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
        """Insert an entry before the end of the file in one write, or leave the file unchanged."""
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
    """Choose the path of each picture: `output` itself for a single one, otherwise files in that folder.

    Args:
        images: Paths or addresses.
        num_texts: Number of texts for each image.
        output: Picture to write, or the folder for several.
        has_folder: Whether a folder of images was given.

    Returns:
        For each image, the path of the picture for each text.

    Raises:
        InvalidInputError: The outputs cannot be written there, or would overwrite each other.
    """
    from mdetr.visualization.picture_files import check_picture_name, is_picture_name

    # A single picture
    path = Path(output)
    count = len(images) * num_texts
    is_folder = output.endswith(("/", os.sep)) or path.is_dir()
    if count == 1 and not is_folder and (is_picture_name(path) or not has_folder):
        check_picture_name(path)
        check_folder(path.parent, path.name)
        return [[path]]
    if not is_folder and is_picture_name(path):
        raise InvalidInputError(
            f"{path} is the name of a single picture, but there are {count} to write; choose a folder, such "
            f"as {path.with_suffix('')}."
        )

    # A folder of pictures named after the images; a.jpg and a.png keep their suffixes
    check_folder(path, "pictures")
    endings = [""] if num_texts == 1 else [f"-{number}" for number in range(1, num_texts + 1)]
    stems = [_stem(image) for image in images]
    if len(set(stems)) < len(stems):
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
    """Check that a folder can be written to, or can be created.

    Args:
        folder: The folder.
        what: What will be written there, for the message.

    Raises:
        InvalidInputError: It is a file, or cannot be written to.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if os.path.lexists(parent))
    if not existing.is_dir():
        raise InvalidInputError(f"{existing} is a file, so {what} cannot be written to it; choose a folder.")
    _check_writable(existing, what)


def _check_writable(folder: Path, what: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidInputError(f"No permission to write to the folder {folder}; choose another for {what}.")
