"""Checks of whole data sets: images, positions of boxes, and words for left and right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mdetr.data.checks.findings import Finding, Tally, shorten
from mdetr.data.checks.kinds import FIXED_SIDES, IN_A_CORNER, INVALID, SIDES
from mdetr.data.record import Record
from mdetr.data.side_words import LANGUAGES, mirror_words
from mdetr.errors import InvalidInputError, InvalidRecordError

CORNER = 0.75  # fraction of an image's width and height
CORNER_BOXES = 30  # fewer boxes may all lie in a corner of their images by chance


class CornerBoxes:
    """Finds files and stores without any box in the right and lower parts of their images."""

    def __init__(self) -> None:
        self._count = Counter[str]()
        self._reach: dict[str, tuple[float, float]] = {}

    def update(self, record: Record, image: Path | bytes, where: str) -> None:
        self._count[where] += len(record.boxes)
        right, lower = self._reach.get(where, (0.0, 0.0))
        for _, _, x1, y1 in record.boxes:
            right, lower = max(right, x1 / record.width), max(lower, y1 / record.height)
        self._reach[where] = right, lower

    def finish(self) -> Sequence[Finding]:
        tally = Tally(IN_A_CORNER)
        total = 0
        for where, (right, lower) in self._reach.items():
            # Boxes in fractions of the image have their own check
            if self._count[where] >= CORNER_BOXES and 0.01 < max(right, lower) <= CORNER:
                extent = f"{right:.0%} of the width and {lower:.0%} of the height"
                tally.add("", f"all {self._count[where]} lie within {extent}", where)
                total += self._count[where]
        return [replace(finding, count=total) for finding in tally.findings()]


class Images:
    """Finds missing images and, if it reads them, damaged images and those of another size."""

    def __init__(self, reads_images: bool) -> None:
        self._reads_images = reads_images
        self._tally = Tally(INVALID["image"])
        self._last: tuple[object, str | None] = (None, None)

    def add(self, error: InvalidRecordError, where: str) -> None:
        """Count an image whose size could not be read."""
        self._tally.add("", str(error), where)

    def update(self, record: Record, image: Path | bytes, where: str) -> None:
        key = (image, record.width, record.height)
        if key != self._last[0]:
            self._last = key, self._problem_of(record, image)
            if self._last[1] is not None:
                self._tally.add(record.id, self._last[1], where)

    def finish(self) -> Sequence[Finding]:
        return self._tally.findings()

    def _problem_of(self, record: Record, image: Path | bytes) -> str | None:
        if isinstance(image, Path) and not image.is_file():
            return f"there is no file {image}"
        if not self._reads_images:
            return None
        from mdetr.processing.images import load_image

        try:
            height, width = load_image(image).shape[:2]
        except InvalidInputError as error:
            return str(error)
        if (width, height) == (record.width, record.height):
            return None
        return (
            f"the image of {width} x {height} pixels is recorded as {record.width} x {record.height}: its "
            "boxes belong to another version of it"
        )


class SideWords:
    """Finds texts with words for left and right, and whether these can be swapped in mirrored images."""

    def __init__(self) -> None:
        self._swapped, self._fixed = Tally(SIDES), Tally(FIXED_SIDES)
        self._languages = Counter[str]()

    def update(self, record: Record, image: Path | bytes, where: str) -> None:
        text = f"{record.text}\n{record.answer}" if record.answer else record.text
        if mirror_words(text, ()) == []:
            return
        languages = [language for language in LANGUAGES if mirror_words(text, (language,))]
        self._languages.update(languages)
        if languages:
            self._swapped.add(record.id, f"{shorten(record.text)} ({' or '.join(languages)})", where)
        elif mirror_words(text, LANGUAGES) is None:
            self._fixed.add(record.id, shorten(record.text), where)
        else:
            self._swapped.add(record.id, f"{shorten(record.text)} (several languages)", where)

    def finish(self) -> Sequence[Finding]:
        counts = [f"{language} {count:,}" for language, count in self._languages.most_common()]
        kind = self._swapped.kind
        self._swapped.kind = replace(
            kind,
            title=f"{kind.title} ({', '.join(counts) or 'in several languages at once'})",
            advice=kind.advice.format(languages=", ".join(self._main_languages())),
        )
        return [*self._swapped.findings(), *self._fixed.findings()]

    def _main_languages(self) -> list[str]:
        """List the frequent languages; rare ones come from words that two languages share."""
        most = self._languages.most_common()
        return [language for language, count in most if count * 10 >= most[0][1]] if most else list(LANGUAGES)
