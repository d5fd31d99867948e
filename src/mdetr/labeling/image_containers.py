"""Files that contain many images: tar and zip archives, and Parquet files; local ones or at an address."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from mdetr.data.sources.image_sizes import is_image_name
from mdetr.errors import InvalidInputError, MissingDependencyError
from mdetr.files import is_address
from mdetr.processing.addresses import read_address

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip", ".parquet")
_IMAGE_COLUMNS = ("image", "image_bytes", "img", "jpg", "jpeg", "png", "webp", "bytes", "picture", "photo")
_NAME_COLUMNS = ("image_path", "path", "file_name", "filename", "file", "url", "image_url", "__key__")
_DAMAGED_FILE_ERRORS = (
    *(OSError, EOFError, ValueError),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, pa.ArrowException),
)


@dataclass(frozen=True, slots=True)
class ContainedImage:
    """An image of a container.

    Attributes:
        name: Path of the image.
        member: Key to read the image by; None if the container holds only the path or address in `name`.
    """

    name: str
    member: str | None


class Container(Protocol):
    """A file that contains images."""

    def images(self) -> Iterator[ContainedImage]:
        """Yield the images, in the order of the file."""
        ...

    def read(self, member: str) -> bytes:
        """Read the encoded image of a key."""
        ...


def is_container(name: str) -> bool:
    """Return whether the name of a file is that of an archive or a Parquet file."""
    return name.lower().endswith(SUFFIXES)


def open_container(source: str) -> Container:
    """Open an archive or a Parquet file.

    Args:
        source: Path or address of the file; its suffix is one of `SUFFIXES`.

    Returns:
        The opened file.

    Raises:
        InvalidInputError: The file cannot be read, is damaged, or is a Parquet file without images.
        MissingDependencyError: The address needs a package that is not installed.
    """
    name = source.partition("?")[0].lower() if is_address(source) else source.lower()
    try:
        if name.endswith(".zip"):
            return _ZipFile(source)
        if name.endswith(".parquet"):
            return _ParquetFile(source)
        return _TarFile(source)
    except InvalidInputError:  # a ValueError too, but its sentence is complete
        raise
    except _DAMAGED_FILE_ERRORS as error:
        raise _cannot_be_read(source, error) from None


def beside(source: str, path: str) -> str:
    """Resolve a path that a list or a file of images names.

    Args:
        source: Path or address of the file.
        path: Path relative to its folder, or an absolute one.

    Returns:
        The path, or the address.
    """
    if is_address(source):
        return f"{source.rpartition('/')[0]}/{path}"
    return str((Path(source).parent / Path(path).expanduser()).absolute())


def open_file_system(address: str) -> tuple[AbstractFileSystem, str]:
    """Open the file system of an address.

    Args:
        address: For example "s3://bucket/photos".

    Returns:
        The file system, and the path of the address in it.

    Raises:
        InvalidInputError: There is no such file system, or it cannot be reached.
        MissingDependencyError: The address needs a package that is not installed.
    """
    try:
        from fsspec.core import url_to_fs

        file_system, path = url_to_fs(address)
    except ImportError as error:
        raise MissingDependencyError(f"Reading {address} needs another package: {error}.") from None
    except Exception as error:  # every file system raises its own exceptions
        raise InvalidInputError(f"{address} cannot be opened ({error}); check the address.") from None
    return file_system, path


class _TarFile:
    """A tar archive, plain or compressed with gzip, whose images are read by their position in it."""

    def __init__(self, source: str) -> None:
        self._source = source
        is_compressed = source.lower().endswith((".gz", ".tgz"))
        self._file = _open_file(source, "gzip" if is_compressed else None)

    def images(self) -> Iterator[ContainedImage]:
        self._file.seek(0)
        keys: dict[str, str] = {}
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as archive:
                for member in archive:
                    if not is_image_name(member.name):
                        continue
                    if member.isreg():
                        keys[member.name] = f"{member.offset_data}:{member.size}"
                        yield ContainedImage(member.name, keys[member.name])
                    elif member.islnk() and member.linkname in keys:  # another name of an earlier member
                        yield ContainedImage(member.name, keys[member.linkname])
        except _DAMAGED_FILE_ERRORS as error:
            raise _cannot_be_read(self._source, error) from None

    def read(self, member: str) -> bytes:
        offset, size = map(int, member.split(":"))
        try:
            self._file.seek(offset)
            return self._file.read(size)
        except _DAMAGED_FILE_ERRORS as error:
            raise _cannot_be_read(self._source, error) from None


class _ZipFile:
    """A zip archive, whose images are read by their number in its directory."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._archive = zipfile.ZipFile(_open_file(source))

    def images(self) -> Iterator[ContainedImage]:
        for index, member in enumerate(self._archive.infolist()):
            if not member.is_dir() and is_image_name(member.filename):
                yield ContainedImage(member.filename, str(index))

    def read(self, member: str) -> bytes:
        entry = self._archive.infolist()[int(member)]
        try:
            return self._archive.read(entry)
        except (*_DAMAGED_FILE_ERRORS, RuntimeError, NotImplementedError) as error:  # encrypted, for example
            raise InvalidInputError(f"{entry.filename} in {self._source} cannot be read ({error}).") from None


class _ParquetFile:
    """A Parquet file, whose images are read by their row.

    The column of images holds encoded images, mappings with "bytes" and "path" as in Hugging Face data sets,
    or paths or addresses.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._file = pq.ParquetFile(_open_file(source))
        self._column = _find_image_column(self._file.schema_arrow, source)
        self._names = next((name for name in _NAME_COLUMNS if name in self._file.schema_arrow.names), None)
        self._group: tuple[int, list[Any]] | None = None  # the row group that was read last

        # Index the first row of each row group
        self._starts = [0]
        for group in range(self._file.num_row_groups):
            self._starts.append(self._starts[-1] + self._file.metadata.row_group(group).num_rows)

    def images(self) -> Iterator[ContainedImage]:
        stem = self._source.rpartition("/")[2].removesuffix(".parquet")
        kind = self._file.schema_arrow.field(self._column).type
        for row, (value, name) in enumerate(self._names_of_rows(kind)):
            if _is_text(kind):
                if value:
                    yield ContainedImage(str(value), None)
            else:
                yield ContainedImage(name or f"{stem}-{row:06d}", str(row))

    def read(self, member: str) -> bytes:
        row = int(member)
        group = bisect_right(self._starts, row) - 1
        if self._group is None or self._group[0] != group:
            table = self._file.read_row_group(group, columns=[self._column])
            self._group = group, table.column(0).to_pylist()
        value = self._group[1][row - self._starts[group]]
        content = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(value, dict) and content is None and value.get("path"):
            return self._read_beside(value["path"])
        if not isinstance(content, bytes):
            raise InvalidInputError(
                f"Row {row} of {self._source} holds no image; leave the row out, or check the column."
            )
        return content

    def _read_beside(self, path: str) -> bytes:
        """Read the image at a path, relative to the folder of the Parquet file, or at an address."""
        place = path if is_address(path) else beside(self._source, path)
        try:
            return read_address(place) if is_address(place) else Path(place).read_bytes()
        except OSError as error:
            raise InvalidInputError(
                f"The image {path} of {self._source} cannot be read ({error.strerror}); check the path."
            ) from None

    def _names_of_rows(self, kind: pa.DataType) -> Iterator[tuple[Any, str | None]]:
        """Yield the path or address of each row, if the column has one, and the name of its image."""
        # Read only what names the images, not the images
        columns = [self._names] if self._names is not None else []
        if _is_text(kind):
            columns.append(self._column)
        elif pa.types.is_struct(kind) and kind.get_field_index("path") >= 0:
            columns.append(f"{self._column}.path")
        if not columns:
            yield from ((None, None) for _ in range(self._starts[-1]))
            return

        for batch in self._file.iter_batches(columns=list(dict.fromkeys(columns))):
            for row in batch.to_pylist():
                value = row.get(self._column)
                name = None if self._names is None else row[self._names]
                if isinstance(value, dict):
                    name = value["path"] or name
                yield value, None if name is None else str(name)


def _find_image_column(schema: pa.Schema, source: str) -> str:
    """Return the column of a Parquet file that holds its images, or else their paths or addresses.

    Args:
        schema: Columns of the file.
        source: Path or address of the file, for the message.

    Returns:
        Name of the column.

    Raises:
        InvalidInputError: There is none.
    """
    for names, accepts in ((_IMAGE_COLUMNS, _is_encoded), (_IMAGE_COLUMNS + _NAME_COLUMNS, _is_text)):
        for name in names:
            if name in schema.names and accepts(schema.field(name).type):
                return name
    for field in schema:
        if _is_encoded(field.type):
            return str(field.name)
    raise InvalidInputError(
        f"{source} has no column of images; expected a column such as `image` with encoded images, paths or "
        f"addresses, got {', '.join(schema.names)}."
    )


def _is_encoded(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _open_file(source: str, compression: str | None = None) -> BinaryIO:
    """Open a local or remote file, in which one can seek."""
    if not is_address(source):
        return cast(BinaryIO, gzip.open(source)) if compression else open(source, "rb")
    try:
        import fsspec

        return cast(BinaryIO, fsspec.open(source, "rb", compression=compression).open())
    except ImportError as error:
        raise MissingDependencyError(f"Reading {source} needs another package: {error}.") from None
    except Exception as error:  # every file system raises its own exceptions
        raise _cannot_be_read(source, error) from None


def _cannot_be_read(source: str, error: Exception) -> InvalidInputError:
    return InvalidInputError(
        f"{source} cannot be read ({error or type(error).__name__}); check that it is complete."
    )
