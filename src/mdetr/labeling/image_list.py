"""Lists of images: folders, files, lists, archives, Parquet files, web addresses and buckets.

An entry of a list is small and says where its image is, so that any process on any machine can read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from mdetr.data.sources.image_sizes import is_image_name
from mdetr.errors import InvalidInputError
from mdetr.files import address_name, is_address, is_data_address
from mdetr.labeling.image_containers import (
    Container,
    beside,
    is_container,
    open_container,
    open_file_system,
)
from mdetr.processing.addresses import read_address

_OPEN_CONTAINERS = 8


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image, and where it is.

    Attributes:
        name: Path of the image in the labeled data set, unique in it even without the suffix.
        source: Path or address of the image, or of the file that contains it.
        member: Key of the image within that file; None if the source is the image itself.
    """

    name: str
    source: str
    member: str | None = None

    def read(self) -> Path | bytes:
        """Read the image, unless it is a local file.

        Returns:
            The path of a local image, or the bytes of any other.

        Raises:
            InvalidInputError: The file or address cannot be read.
            MissingDependencyError: The address needs a package that is not installed.
        """
        if self.member is not None:
            return _cached_container(self.source).read(self.member)
        return read_address(self.source) if is_address(self.source) else Path(self.source)


def list_images(sources: Sequence[str]) -> list[ImageReference]:
    """List the images of files, folders, archives and addresses.

    Args:
        sources: Each is one of:
            - an image;
            - a folder, whose subfolders are searched too; one without images may hold archives instead;
            - a .txt file with a path or address on each line, relative to the file's folder;
            - a .tar (as of WebDataset), .tar.gz, .tgz or .zip file;
            - a .parquet file with a column of images, paths or addresses;
            - an http(s) address, or one that fsspec can open, of any of these (but no folder for http), with
              * for any characters.

    Returns:
        The images, in the order of the sources; those of a folder by name.

    Raises:
        InvalidInputError: A source does not exist or cannot be read, or there is no image.
        MissingDependencyError: An address needs a package that is not installed.
    """
    references: list[ImageReference] = []
    taken: set[str] = set()
    for source in dict.fromkeys(sources):
        found = False
        for reference in _expand(source):
            _check_is_text(reference.source, reference.name)
            name = _unique_name(reference.name, taken)
            references.append(ImageReference(name, reference.source, reference.member))
            found = True
        if not found:
            raise InvalidInputError(f"There is no image in {source}; check the path.")
    return references


def _expand(source: str) -> Iterator[ImageReference]:
    """Yield the images of one source; their names may not be unique yet."""
    if is_data_address(source):
        raise InvalidInputError(
            "Expected a path or an address of images, got a data: URL; save it to a file."
        )
    if source.lower().startswith(("http://", "https://")):
        yield from _expand_file(source, address_name(source))
    elif is_address(source):
        yield from _expand_address(source)
    else:
        yield from _expand_path(Path(source).expanduser())


def _expand_path(path: Path) -> Iterator[ImageReference]:
    """Yield the images of a local file or folder."""
    if not path.exists():
        raise InvalidInputError(f"There is no file or folder {path}; check the path.")
    if not path.is_dir():
        yield from _expand_file(str(path.absolute()), path.name)
        return

    # Prefer images; a folder without any may hold archives
    try:
        # A link without its target is listed too, and reported when it is read
        files = sorted(
            file
            for file in path.absolute().rglob("*")
            if file.is_file() or (file.is_symlink() and not file.exists())
        )
    except OSError as error:
        raise InvalidInputError(f"The folder {path} cannot be read ({error.strerror}).") from None
    yield from _expand_files([(str(file), file.relative_to(path.absolute()).as_posix()) for file in files])


def _expand_address(address: str) -> Iterator[ImageReference]:
    """Yield the images at an address of a remote file system: a file, a folder, or a pattern with *."""
    file_system, path = open_file_system(address)
    try:
        if "*" in path:
            root = path[: path.index("*")].rpartition("/")[0]
            paths = sorted(file_system.glob(path))
        elif file_system.isdir(path):
            root = path.rstrip("/")
            paths = sorted(file_system.find(path))
        else:
            yield from _expand_file(address, address_name(address))
            return
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{address} cannot be listed ({error}); check the address.") from None
    files = [(file_system.unstrip_protocol(file), file.removeprefix(root).lstrip("/")) for file in paths]
    yield from _expand_files(files)


def _expand_files(files: Sequence[tuple[str, str]]) -> Iterator[ImageReference]:
    """Yield the images among files, given as (source, name); if there is none, those in archives.

    Hidden files, and files in hidden folders, are skipped.
    """
    visible = [(source, name) for source, name in files if not _is_hidden(name)]
    images = [(source, name) for source, name in visible if is_image_name(name)]
    if images:
        for source, name in images:
            yield ImageReference(name, source)
        return
    for source, name in visible:
        if is_container(name):
            yield from _expand_file(source, name)


def _expand_file(source: str, name: str) -> Iterator[ImageReference]:
    """Yield the images of one file: those that it lists or contains, or the file itself."""
    if name.lower().endswith(".txt"):
        yield from _expand_list(source)
    elif is_container(name):
        container = _cached_container(source)
        for image in container.images():
            if image.member is not None:
                yield ImageReference(image.name, source, image.member)
            elif is_address(image.name):
                yield ImageReference(address_name(image.name), image.name)
            else:
                yield ImageReference(_name_of_path(image.name), beside(source, image.name))
    else:
        yield ImageReference(name, source)


def _expand_list(source: str) -> Iterator[ImageReference]:
    """Yield the images whose paths or addresses are the lines of a text file."""
    try:
        content = read_address(source) if is_address(source) else Path(source).read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise InvalidInputError(f"The list {source} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise InvalidInputError(f"The list {source} is not UTF-8 text; save it as UTF-8.") from None
    for line in lines:
        entry = line.strip()
        if is_address(entry):
            yield ImageReference(address_name(entry), entry)
        elif entry:
            yield ImageReference(_name_of_path(entry), beside(source, entry))


def _name_of_path(path: str) -> str:
    """Return a relative path unchanged, and of an absolute one the file name."""
    return Path(path).name if Path(path).expanduser().is_absolute() else path


def _check_is_text(source: str, name: str) -> None:
    """Refuse a name of bytes that are no UTF-8, which the formats of labels cannot hold."""
    try:
        f"{source}{name}".encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"The name of the file {source!a} is not UTF-8; rename the file.") from None


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _unique_name(name: str, taken: set[str]) -> str:
    """Make a relative path without "..", whose part before the suffix is not taken yet.

    Label files replace the suffix, so "a.jpg" and "a.png" cannot both keep their name; nor can "a.jpg" and
    "A.jpg", which are the same file on some systems.
    """
    # Keep the path relative, and within its folder
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    path = PurePosixPath(*parts) if parts else PurePosixPath("image")
    if not is_image_name(path.name):
        path = path.with_name(f"{path.name}.jpg")

    # Count up until the name is free
    candidate, number = path, 1
    while str(candidate.with_suffix("")).casefold() in taken:
        number += 1
        candidate = path.with_stem(f"{path.stem}-{number}")
    taken.add(str(candidate.with_suffix("")).casefold())
    return str(candidate)


@lru_cache(maxsize=_OPEN_CONTAINERS)
def _cached_container(source: str) -> Container:
    return open_container(source)
