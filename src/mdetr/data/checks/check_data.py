"""Checks of data for problems that affect training, in one pass over the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mdetr.data.checks.data_set_checks import CornerBoxes, Images, SideWords
from mdetr.data.checks.duplicates import Duplicates
from mdetr.data.checks.findings import SEVERITIES, Finding, Tally
from mdetr.data.checks.kinds import (
    BOXES_WITHOUT_WORDS,
    CUT_WORDS,
    FRACTIONS,
    INVALID,
    NOTHING_REFERRED,
    PHRASES_WITHOUT_BOXES,
    SMALL_BOXES,
    TEXTS_WITHOUT_BOXES,
)
from mdetr.data.checks.record_checks import (
    EachRecord,
    LongTexts,
    ManyBoxes,
    boxes_without_words,
    cut_words,
    fractions,
    nothing_referred,
    phrases_without_boxes,
    small_boxes,
    texts_without_boxes,
)
from mdetr.data.record import Record, from_row
from mdetr.data.store import OnBad, Store
from mdetr.errors import InvalidInputError, InvalidRecordError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class CheckedData:
    """Records to check, from a store or a JSON Lines file.

    Attributes:
        path: Path of the store or file.
        images: Folder that the image names are relative to; that of the store or file if None.
    """

    path: Path
    images: Path | None = None

    def __post_init__(self) -> None:
        """Check the kind of file.

        Raises:
            InvalidInputError: The path is a file that does not hold JSON Lines.
        """
        if self.path.is_file() and self.path.suffix.lower() != ".jsonl":
            raise InvalidInputError(
                f"{self.path} is neither a .jsonl file nor a store; import it with `mdetr data import`, and "
                "check the store."
            )

    @cached_property
    def store(self) -> Store | None:
        """Open the store; None for a file."""
        return None if self.path.is_file() else Store.open(self.path)

    def records(self, on_bad: OnBad) -> Iterator[Record]:
        """Read all valid records, and pass the errors of the others to `on_bad`."""
        if self.store is None:
            from mdetr.data.sources.json_lines import read_json_lines

            yield from read_json_lines(self.path, self.path.stem, on_bad, self.images)
            return
        row = 0
        for shard in range(self.store.num_shards):
            for table in self.store.tables(shard):
                for values in table.to_pylist():
                    try:
                        record = from_row(values, f"Row {row} of the store {self.path}")
                    except InvalidRecordError as error:
                        on_bad(error)
                    else:
                        yield record
                    row += 1

    def image_of(self, record: Record) -> Path | bytes:
        """Return the file of a record's image, or the encoded image if it is embedded."""
        if isinstance(record.image, bytes):
            return record.image
        default = self.path.parent if self.store is None else self.store.image_root
        return (self.images or default or Path()) / record.image


class Check(Protocol):
    """Check that is updated with all records, and then reports its findings."""

    def update(self, record: Record, image: Path | bytes, where: str) -> None:
        """Process a record, its image file or bytes, and the name of its file or store."""
        ...

    def finish(self) -> Sequence[Finding]:
        """Return the findings."""
        ...


@dataclass(frozen=True)
class CheckOptions:
    """Options of the checks.

    Attributes:
        num_queries: Maximum number of boxes that the model predicts.
        max_tokens: Maximum number of tokens of a text, including special tokens.
        tokenizer: Function that loads the model's tokenizer; RoBERTa's if None.
        read_images: Whether to decode every image.
    """

    num_queries: int = 100
    max_tokens: int = 256
    tokenizer: Callable[[], PreTrainedTokenizerBase] | None = None
    read_images: bool = False


@dataclass(frozen=True)
class Report:
    """Result of the checks.

    Attributes:
        records: Number of valid records.
        refused: Number of invalid records, which are not checked further.
        paths: Files and stores.
        findings: Findings, the most severe first.
    """

    records: int
    refused: int
    paths: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether a finding is an error."""
        return any(finding.kind.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Convert to types of JSON."""
        return {
            "records": self.records,
            "refused": self.refused,
            "data": list(self.paths),
            "findings": [finding.to_dict() for finding in self.findings],
        }


def check_data(
    data: Sequence[CheckedData],
    options: CheckOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Check data for problems that affect training, in one pass and in constant memory.

    Args:
        data: All data to train and evaluate on.
        options: Options of the checks, such as the limits of the model.
        progress: Called with the number of checked records.

    Returns:
        The report.

    Raises:
        InvalidInputError: A file or store is damaged as a whole, or has no records.
    """
    options = options or CheckOptions()
    images, duplicates = Images(options.read_images), Duplicates(options.read_images)
    invalid = {part: Tally(kind) for part, kind in INVALID.items() if part != "image"}
    checks: list[Check] = [images, *_checks(options), duplicates]
    num_valid = num_invalid = 0
    try:
        for each in data:
            where = str(each.path)

            # Count the invalid records
            def refuse(error: InvalidRecordError, where: str = where) -> None:
                nonlocal num_invalid
                num_invalid += 1
                if error.part == "image":
                    images.add(error, where)
                else:
                    invalid[error.part].add("", str(error), where)

            # Check the others
            for record in each.records(refuse):
                image = each.image_of(record)
                for check in checks:
                    check.update(record, image, where)
                num_valid += 1
                if progress is not None:
                    progress(num_valid + num_invalid)
        if not num_valid + num_invalid:
            raise InvalidInputError(f"{', '.join(str(each.path) for each in data)} holds no records.")

        # Collect the findings
        findings: list[Finding] = []
        for tally in invalid.values():
            findings.extend(tally.findings())
        for check in checks:
            findings.extend(check.finish())
    finally:
        duplicates.close()
    findings.sort(key=lambda finding: SEVERITIES.index(finding.kind.severity))
    return Report(num_valid, num_invalid, tuple(str(each.path) for each in data), tuple(findings))


def _checks(options: CheckOptions) -> list[Check]:
    """Make the checks that need no images, in the order of the report."""
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
    from mdetr.processing.processor import roberta_tokenizer  # slow to import, only for long texts

    return roberta_tokenizer()
