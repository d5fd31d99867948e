"""Images and texts of a command line: found and checked before a model is loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mdetr.cli.outputs import Outputs, plan_outputs
from mdetr.errors import InvalidInputError
from mdetr.files import address_name, is_address, is_data_address
from mdetr.processing.texts import check_text

ImageSource = Path | str
"""An image on the command line: a path or an address."""


@dataclass(frozen=True)
class Query:
    """What a command predicts, and where the results go.

    Attributes:
        sources: The images.
        texts: The texts; each is combined with every image.
        outputs: Where the results go.
    """

    sources: Sequence[ImageSource]
    texts: Sequence[str]
    outputs: Outputs


def read_query(
    arguments: Sequence[str], also: Sequence[str] | None, output: str | None, json_file: str | None
) -> Query:
    """Read and check the arguments `IMAGE... TEXT` of a command.

    Args:
        arguments: Images, folders of images and addresses, followed by one text.
        also: Further texts for the same images.
        output: Value of `--output`: a picture, or a folder for several.
        json_file: Value of `--json`.

    Returns:
        The images, the texts and where the results go.

    Raises:
        InvalidInputError: An image or the text is missing, a text is not valid, or an output cannot be
            written.
    """
    if len(arguments) < 2:
        raise InvalidInputError("Give at least one image and then the text, in quotes.")
    *names, text = arguments
    check_is_no_image(text)
    texts = [text, *(also or [])]
    sources = find_images(names)
    outputs = plan_outputs(sources, len(texts), output, json_file, has_folder(names))
    for one_text in texts:
        check_text(one_text)
    return Query(sources, texts, outputs)


def check_is_no_image(text: str) -> None:
    """Check that the last argument is a text and not one more image.

    Args:
        text: The last argument.

    Raises:
        InvalidInputError: It names an image file that exists.
    """
    from mdetr.visualization.picture_files import is_picture_name

    if os.path.isfile(text) and is_picture_name(Path(text)):
        raise InvalidInputError(f"The last argument should be a text, but {text} is an image; add the text.")


def find_images(names: Sequence[str]) -> list[ImageSource]:
    """Replace the folders among the arguments by the images in them.

    Args:
        names: Image files, folders and addresses.

    Returns:
        Image files and addresses, in the order given; those of a folder by name.

    Raises:
        InvalidInputError: A folder cannot be read or holds no image, or none of the images exists.
    """
    sources: list[ImageSource] = []
    for name in names:
        if is_address(name):
            sources.append(name)
        elif os.path.isdir(name):
            sources += _images_in_folder(Path(name))
        else:
            sources.append(Path(name))
    if not any(isinstance(source, str) or os.path.lexists(source) for source in sources):
        raise InvalidInputError(f"There is no image at {sources[0]}; check the path.")
    return sources


def has_folder(names: Sequence[str]) -> bool:
    """Return whether one of the arguments is a folder."""
    return any(os.path.isdir(name) for name in names)


def image_name(source: ImageSource) -> str:
    """Return a short name to print: the file's name, or the beginning of an address."""
    if isinstance(source, Path):
        return source.name
    return f"{source[:24]}..." if is_data_address(source) else address_name(source)


def image_address(source: ImageSource) -> str:
    """Return the path or address for the results; an image within its address is shortened."""
    return image_name(source) if is_data_address(source) else str(source)


def _images_in_folder(folder: Path) -> list[ImageSource]:
    """List the image files of a folder by name, without hidden files and folders.

    Args:
        folder: The folder.

    Returns:
        The image files; at least one.

    Raises:
        InvalidInputError: The folder cannot be read, or holds no image.
    """
    from mdetr.visualization.picture_files import readable_suffixes

    suffixes = readable_suffixes()
    images: list[ImageSource] = []
    try:
        for file in sorted(folder.iterdir()):
            is_hidden = file.name.startswith(".")
            is_special = file.exists() and not file.is_file()  # a folder, a pipe or a device
            if file.suffix.lower() in suffixes and not is_hidden and not is_special:
                images.append(file)
    except OSError as error:
        raise InvalidInputError(f"The folder {folder} cannot be read ({error.strerror}).") from None
    if not images:
        raise InvalidInputError(
            f"There is no image in the folder {folder}; subfolders are not searched, so name them."
        )
    return images


def read_lines(file: Path) -> list[str]:
    """Read the lines of a text file.

    Args:
        file: The file.

    Returns:
        Its lines, without white space around them and without empty ones.

    Raises:
        InvalidInputError: The file cannot be read, or is not UTF-8.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{file} is not UTF-8 text (byte {error.start + 1}); save it as UTF-8."
        ) from None
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be read ({error.strerror}); give a text file.") from None
    return [line.strip() for line in lines if line.strip()]
