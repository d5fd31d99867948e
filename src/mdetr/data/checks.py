"""Checks of records for what spoils training, in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import regex

from mdetr.data.findings import SEVERITIES, Finding, Kind, Tally
from mdetr.data.record import Record, from_row, validate_record
from mdetr.data.repeats import Repeats
from mdetr.data.side_words import LANGUAGES, mirror_words
from mdetr.data.store import OnBad, Store
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.coordinates import Box, Spans
from mdetr.processing.words import Words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN = 60  # characters of a text in an example
SMALL_AREA = 0.0001  # of the image
SMALL_SIDE = 2.0  # pixels
CORNER = 0.75  # of an image's width and height
CORNER_BOXES = 30  # so many boxes are hardly ever all in a corner of their images
_KOREAN = regex.compile(r"\p{Hangul}")

# What an import refuses, by the part of the record that breaks a rule.
REFUSED = {
    "image": Kind(
        "images",
        "error",
        "images that are missing, damaged or of another size",
        "Put them where the data say, get them again, or name their folder with --images.",
    ),
    "box": Kind(
        "boxes-outside",
        "error",
        "boxes that are empty or leave their image",
        "Boxes are x0, y0, x1, y1 in pixels of the image itself, not of a resized one.",
    ),
    "text": Kind("empty-texts", "error", "empty texts", "Give each a text, or remove it."),
    "span": Kind(
        "spans-outside",
        "error",
        "spans outside their text",
        "Spans count characters, not bytes or tokens, from 0, and their end is exclusive.",
    ),
    "entry": Kind(
        "unreadable",
        "error",
        "entries that cannot be read",
        "Mend them; `mdetr data import --skip-bad` would leave them out.",
    ),
}
CUT_WORDS = Kind(
    "cut-words",
    "warning",
    "spans that cut words or hold spaces at their ends",
    "Give whole words: a token that is cut teaches half of a word, or nothing.",
)
BOXES_WITHOUT_WORDS = Kind(
    "boxes-without-words",
    "warning",
    "boxes that belong to no words",
    "Tie each to its words (`phrases`), or remove it: nothing can be learned from it.",
)
PHRASES_WITHOUT_BOXES = Kind(
    "phrases-without-boxes",
    "warning",
    "phrases without a box",
    "Draw their boxes: without, they teach that what they name is not there.",
)
TEXTS_WITHOUT_BOXES = Kind(
    "texts-without-boxes",
    "warning",
    "texts without a box",
    "Right where what they name is not in the image; else draw its boxes.",
)
NOTHING_REFERRED = Kind(
    "nothing-referred",
    "warning",
    "expressions of which no box is marked as what they refer to",
    "Mark one with `is_referred`, or leave the field out.",
)
FRACTIONS = Kind(
    "fractions",
    "error",
    "records whose boxes look like fractions of the image",
    "Multiply x by the image's width and y by its height: boxes are in pixels.",
)
IN_A_CORNER = Kind(
    "boxes-in-a-corner",
    "warning",
    "boxes that all lie in the upper left of their images",
    "They may belong to smaller versions of the images: look at some with `mdetr data view`.",
)
SMALL_BOXES = Kind(
    "small-boxes",
    "note",
    f"very small boxes (a side under {SMALL_SIDE:g} pixels, or under {SMALL_AREA:.2%} of the image)",
    "Hardly learned: remove them if they are slips of the hand.",
)
LONG_TEXTS = Kind(
    "long-texts", "error", "texts of more than {limit} tokens", "Shorten or split them: they cannot be read."
)
MANY_BOXES = Kind(
    "many-boxes",
    "warning",
    "texts with more than {limit} boxes",
    "The model has {limit} queries: of each such text {limit} boxes are learned; split it, or raise "
    "num_queries.",
)
SIDES = Kind(
    "sides",
    "note",
    "texts that name a side, such as left or right",
    "Where training mirrors images, `flip_languages: [{languages}]` swaps these words; without it, images "
    "with such texts are never mirrored.",
)
FIXED_SIDES = Kind(
    "fixed-sides",
    "note",
    "texts that name a side in words that cannot be swapped",
    "Images with such texts are never mirrored in training, whatever `flip_languages` says.",
)


@dataclass(frozen=True)
class CheckedData:
    """Records to check, from a store or a file of JSON lines.

    Attributes:
        path: Of the store or the file.
        images: The folder that its images are relative to; the store's or the file's own if None.
    """

    path: Path
    images: Path | None = None

    def __post_init__(self) -> None:
        """See what is at the path.

        Raises:
            InvalidInputError: A file that does not hold JSON lines.
        """
        if self.path.is_file() and self.path.suffix.lower() != ".jsonl":
            raise InvalidInputError(
                f"{self.path} is neither a .jsonl file nor a store; import it with `mdetr data import`, and "
                "check the store."
            )

    @cached_property
    def store(self) -> Store | None:
        """The store; None for a file."""
        return None if self.path.is_file() else Store.open(self.path)

    def records(self, on_bad: OnBad) -> Iterator[Record]:
        """All records; those that break a rule are told to `on_bad`."""
        if self.store is None:
            from mdetr.data.sources.json_lines import read_json_lines  # with torch, to read sizes

            yield from read_json_lines(self.path, self.path.stem, on_bad, self.images)
            return
        shards = range(self.store.num_shards)
        tables = (table for shard in shards for table in self.store.tables(shard))
        for row, values in enumerate(values for table in tables for values in table.to_pylist()):
            record = from_row(values)
            try:
                validate_record(record, f"Row {row} of the store {self.path}")
            except InvalidRecordError as error:
                on_bad(error)
            else:
                yield record

    def image_of(self, record: Record) -> Path | bytes:
        """The file of a record's image, or the image itself where it is embedded."""
        if isinstance(record.image, bytes):
            return record.image
        own = self.path.parent if self.store is None else self.store.image_root
        return (self.images or own or Path()) / record.image


class Check(Protocol):
    """One check: takes all records, one after the other, and then says what it found."""

    def update(self, record: Record, image: Path | bytes, where: str) -> None:
        """Take a record, its image's file or bytes, and the file or store that it is from."""
        ...

    def finish(self) -> Sequence[Finding]:
        """What was found in all of them."""
        ...


class EachRecord:
    """A check of each record by itself."""

    def __init__(self, kind: Kind, find: Callable[[Record], Iterator[str]]) -> None:
        """Take what is looked for.

        Args:
            kind: Of the finding.
            find: A record -> what is wrong with it, once for each time that it is counted.
        """
        self._tally = Tally(kind)
        self._find = find

    def update(self, record: Record, image: Path | bytes, where: str) -> None:
        for what in self._find(record):
            self._tally.add(record.id, what, where)

    def finish(self) -> Sequence[Finding]:
        return self._tally.findings()


def cut_words(record: Record) -> Iterator[str]:
    """Spans that begin or end inside a word, or with white space."""
    text = record.text
    words: Words | None = None
    for start, end in _all_spans(record):
        span = text[start:end]
        if span != span.strip():
            yield f"{span!r} begins or ends with a space"
            continue
        if _is_between_words(text, start) and _is_between_words(text, end):
            continue
        words = words or Words(text)
        first, last = words.expand(start, end)
        if last > end and _KOREAN.match(text[end - 1]) and _KOREAN.match(text[end]):
            last = end  # a particle follows
        if (first, last) != (start, end):
            yield f"{span!r} is a part of {text[first:last]!r}"


def boxes_without_words(record: Record) -> Iterator[str]:
    """Boxes that no words belong to; those of questions serve as what the answer rests on."""
    for box, spans in zip(record.boxes, record.spans, strict=True):
        if not spans and record.answer is None:
            yield f"box {_shown_box(box)} of {_shown(record.text)}"


def phrases_without_boxes(record: Record) -> Iterator[str]:
    """Phrases that evaluation asks about and that have no box."""
    for phrase in record.phrases or ():
        if not phrase.box_indices:
            yield f"{_words_of(record.text, phrase.spans)!r} in {_shown(record.text)}"


def texts_without_boxes(record: Record) -> Iterator[str]:
    """Texts, other than questions, that have no box at all."""
    if not record.boxes and record.answer is None:
        yield _shown(record.text)


def nothing_referred(record: Record) -> Iterator[str]:
    """Expressions with boxes of which none is marked."""
    if record.boxes and record.is_referred is not None and not any(record.is_referred):
        yield _shown(record.text)


def fractions(record: Record) -> Iterator[str]:
    """Records all of whose boxes lie in the first pixel of a larger image."""
    if _has_fractions(record):
        yield f"box {_shown_box(record.boxes[0])} in an image of {record.width} x {record.height} pixels"


def small_boxes(record: Record) -> Iterator[str]:
    """Boxes of next to no size; see `SMALL_BOXES`."""
    for x0, y0, x1, y1 in () if _has_fractions(record) else record.boxes:
        width, height = x1 - x0, y1 - y0
        if min(width, height) < SMALL_SIDE or width * height < SMALL_AREA * record.width * record.height:
            yield (
                f"box {_shown_box((x0, y0, x1, y1))}, {width:g} x {height:g} pixels in an image of "
                f"{record.width} x {record.height}"
            )


class ManyBoxes(EachRecord):
    """Texts with more boxes than the model has queries."""

    def __init__(self, num_queries: int) -> None:
        def find(record: Record) -> Iterator[str]:
            if len(record.boxes) > num_queries:
                yield f"{len(record.boxes)} boxes for {_shown(record.text)}"

        super().__init__(_with_limit(MANY_BOXES, num_queries), find)


class LongTexts(EachRecord):
    """Texts with more tokens than the model has positions."""

    def __init__(self, tokenizer: Callable[[], PreTrainedTokenizerBase], max_tokens: int) -> None:
        """Take what counts.

        Args:
            tokenizer: Gives the model's tokenizer; called when there is a text that may be too long.
            max_tokens: The positions of the model, special tokens included.
        """
        loaded: list[PreTrainedTokenizerBase] = []

        def find(record: Record) -> Iterator[str]:
            # No tokenizer makes more tokens than bytes, but for the special ones.
            if len(record.text.encode()) + 8 <= max_tokens:
                return
            if not loaded:
                loaded.append(tokenizer())
            encoding = loaded[0](record.text, split_special_tokens=True, verbose=False)
            count = len(encoding["input_ids"])
            if count > max_tokens:
                yield f"{count} tokens in {_shown(record.text)}"

        super().__init__(_with_limit(LONG_TEXTS, max_tokens), find)


class CornerBoxes:
    """Whether no box of a file or store reaches the right and the lower part of its image."""

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
            # Fractions are told by a check of their own.
            if self._count[where] >= CORNER_BOXES and 0.01 < max(right, lower) <= CORNER:
                extent = f"{right:.0%} of the width and {lower:.0%} of the height"
                tally.add("", f"all {self._count[where]} lie within {extent}", where)
                total += self._count[where]
        return [replace(finding, count=total) for finding in tally.findings()]


class Images:
    """Images that are missing; if they are read, also damaged ones and those of another size."""

    def __init__(self, reads_images: bool) -> None:
        self._reads_images = reads_images
        self._tally = Tally(REFUSED["image"])
        self._last: tuple[object, str | None] = (None, None)

    def add(self, error: InvalidRecordError, where: str) -> None:
        """Count an image that could not even be opened to learn its size."""
        self._tally.add("", str(error), where)

    def update(self, record: Record, image: Path | bytes, where: str) -> None:
        asked = (image, record.width, record.height)
        if asked != self._last[0]:
            self._last = asked, self._problem_of(record, image)
            if self._last[1] is not None:
                self._tally.add(record.id, self._last[1], where)

    def finish(self) -> Sequence[Finding]:
        return self._tally.findings()

    def _problem_of(self, record: Record, image: Path | bytes) -> str | None:
        if isinstance(image, Path) and not image.is_file():
            return f"there is no file {image}"
        if not self._reads_images:
            return None
        from mdetr.processing.images import load_image  # with torch, which the other checks can do without

        try:
            height, width = load_image(image).shape[-2:]
        except InvalidInputError as error:
            return str(error)
        if (width, height) == (record.width, record.height):
            return None
        return (
            f"the image of {width} x {height} pixels is recorded as {record.width} x {record.height}: its "
            "boxes belong to another version of it"
        )


class SideWords:
    """Texts with words for left and right, and what becomes of them when images are mirrored."""

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
            self._swapped.add(record.id, f"{_shown(record.text)} ({' or '.join(languages)})", where)
        elif mirror_words(text, LANGUAGES) is None:
            self._fixed.add(record.id, _shown(record.text), where)
        else:
            self._swapped.add(record.id, f"{_shown(record.text)} (several languages)", where)

    def finish(self) -> Sequence[Finding]:
        found = [f"{language} {count:,}" for language, count in self._languages.most_common()]
        kind = self._swapped.kind
        self._swapped.kind = replace(
            kind,
            title=f"{kind.title} ({', '.join(found) or 'in several languages at once'})",
            advice=kind.advice.format(languages=", ".join(self._main_languages())),
        )
        return [*self._swapped.findings(), *self._fixed.findings()]

    def _main_languages(self) -> list[str]:
        """The languages of most texts: a word that two languages share is of the more frequent one."""
        most = self._languages.most_common()
        return [language for language, count in most if count * 10 >= most[0][1]] if most else list(LANGUAGES)


@dataclass(frozen=True)
class CheckOptions:
    """How data are checked.

    Attributes:
        num_queries: The most boxes that a model finds.
        max_tokens: The most tokens of a text, special ones included.
        tokenizer: Gives the model's tokenizer; RoBERTa's if None.
        read_images: Whether every image is decoded.
    """

    num_queries: int = 100
    max_tokens: int = 256
    tokenizer: Callable[[], PreTrainedTokenizerBase] | None = None
    read_images: bool = False


@dataclass(frozen=True)
class Report:
    """What checks found in data.

    Attributes:
        records: How many could be read.
        refused: How many could not, so that nothing else of them was checked.
        places: The files and stores.
        findings: The worst first.
    """

    records: int
    refused: int
    places: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether there is anything that stops or misleads training."""
        return any(finding.kind.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "records": self.records,
            "refused": self.refused,
            "data": list(self.places),
            "findings": [finding.to_dict() for finding in self.findings],
        }


def check_data(
    data: Sequence[CheckedData],
    options: CheckOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Find what spoils training, in one pass and in constant memory.

    Args:
        data: What will be trained and evaluated on, together.
        options: Of the model that will be trained.
        progress: Called with the number of records that were looked at.

    Raises:
        InvalidInputError: A file or store is damaged as a whole, or holds nothing.
    """
    options = options or CheckOptions()
    images, repeats = Images(options.read_images), Repeats(options.read_images)
    refused = {part: Tally(kind) for part, kind in REFUSED.items() if part != "image"}
    checks: list[Check] = [images, *_checks(options), repeats]
    count = bad = 0
    try:
        for each in data:
            where = str(each.path)

            def refuse(error: InvalidRecordError, where: str = where) -> None:
                nonlocal bad
                bad += 1
                if error.part == "image":
                    images.add(error, where)
                else:
                    refused[error.part].add("", str(error), where)

            for record in each.records(refuse):
                image = each.image_of(record)
                for check in checks:
                    check.update(record, image, where)
                count += 1
                if progress is not None:
                    progress(count + bad)
        if not count + bad:
            raise InvalidInputError(f"{', '.join(str(each.path) for each in data)} holds no records.")
        found = [finding for tally in refused.values() for finding in tally.findings()]
        found += [finding for check in checks for finding in check.finish()]
    finally:
        repeats.close()
    found.sort(key=lambda finding: SEVERITIES.index(finding.kind.severity))
    return Report(count, bad, tuple(str(each.path) for each in data), tuple(found))


def _checks(options: CheckOptions) -> list[Check]:
    """The checks that look at records alone, in the order in which they are told."""
    return [
        EachRecord(FRACTIONS, fractions),
        LongTexts(options.tokenizer or _roberta, options.max_tokens),
        EachRecord(CUT_WORDS, cut_words),
        EachRecord(BOXES_WITHOUT_WORDS, boxes_without_words),
        EachRecord(PHRASES_WITHOUT_BOXES, phrases_without_boxes),
        EachRecord(TEXTS_WITHOUT_BOXES, texts_without_boxes),
        EachRecord(NOTHING_REFERRED, nothing_referred),
        CornerBoxes(),
        ManyBoxes(options.num_queries),
        SideWords(),
        EachRecord(SMALL_BOXES, small_boxes),
    ]


def _roberta() -> PreTrainedTokenizerBase:
    from mdetr.processing.processor import (
        roberta_tokenizer,  # with torch and transformers, for long texts only
    )

    return roberta_tokenizer()


def _with_limit(kind: Kind, limit: int) -> Kind:
    return replace(kind, title=kind.title.format(limit=limit), advice=kind.advice.format(limit=limit))


def _all_spans(record: Record) -> dict[tuple[int, int], None]:
    """Each span of a record once, those of its boxes and those that evaluation asks about."""
    groups = [*record.spans, *(phrase.spans for phrase in record.phrases or ())]
    return dict.fromkeys(span for spans in groups for span in spans)


def _is_between_words(text: str, place: int) -> bool:
    """Whether a place is surely between words: at an end of the text, or beside white space."""
    return place in (0, len(text)) or text[place - 1].isspace() or text[place].isspace()


def _has_fractions(record: Record) -> bool:
    is_large = min(record.width, record.height) > 4
    return is_large and bool(record.boxes) and all(max(x1, y1) <= 1.01 for _, _, x1, y1 in record.boxes)


def _words_of(text: str, spans: Spans) -> str:
    return " ... ".join(text[start:end] for start, end in spans)


def _shown(text: str) -> str:
    """A text in quotes, cut to a length that fits into a line."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")


def _shown_box(box: Box) -> str:
    return "({:g}, {:g}, {:g}, {:g})".format(*box)
