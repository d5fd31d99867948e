"""Typed view of the extra fields of a record, which the evaluation protocol of its task requires."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mdetr.data.record import Record
from mdetr.errors import InvalidRecordError
from mdetr.processing.coordinates import Box


@dataclass(frozen=True, slots=True)
class PhraseStructure:
    """Structure of a phrase of PhraseCut.

    Attributes:
        kind: "name", "attribute", "relation" or "verbose"; "" if unknown.
        has_attributes: Whether it names an attribute.
        has_relations: Whether it names a relation to another thing.
    """

    kind: str
    has_attributes: bool
    has_relations: bool


@dataclass(frozen=True, slots=True)
class ProtocolFields:
    """Fields that the protocol of one task requires; None or empty if the data set does not provide them.

    Attributes:
        category_id: Detection by name: the class that the record names.
        name: The name of that class.
        frequency: Frequency group of the class: r, c, f or "".
        exhaustive: Whether all boxes of the class are annotated in the image.
        areas: The area of each box in square pixels, which may be that of its mask.
        crowds: The class and x0, y0, x1, y1 of each crowd in the image.
        phrase_types: Phrase grounding: the types of each phrase.
        phrase_boxes: The boxes of each phrase as annotated.
        structure: Segmentation: how the phrase is built.
        is_question: Question answering: whether the text is a question, also where its answer is not known.
        question_type: The type of question.
        structural: GQA's structural type of question.
        group: GQA's group of questions, within which answers are compared.
        valid: The answers that make sense.
        plausible: The answers that the data have for such a question.
        entailed: The ids of the questions that follow from this one.
        absent: Composed texts: names of classes that the image does not show.
    """

    category_id: int | None = None
    name: str | None = None
    frequency: str = ""
    exhaustive: bool = True
    areas: tuple[float, ...] = ()
    crowds: tuple[tuple[float, ...], ...] = ()
    phrase_types: tuple[tuple[str, ...], ...] | None = None
    phrase_boxes: tuple[tuple[Box, ...], ...] | None = None
    structure: PhraseStructure | None = None
    is_question: bool = False
    question_type: str | None = None
    structural: str | None = None
    group: str | None = None
    valid: tuple[str, ...] | None = None
    plausible: tuple[str, ...] | None = None
    entailed: tuple[str, ...] | None = None
    absent: tuple[str, ...] | None = None


def protocol_fields(record: Record) -> ProtocolFields:
    """Read the extra fields of a record.

    Args:
        record: Record whose `extra` is None or JSON.

    Returns:
        The fields, with defaults for those that the record lacks.

    Raises:
        InvalidRecordError: A field has another type than its protocol requires.
    """
    content = {} if record.extra is None else json.loads(record.extra)
    if not isinstance(content, Mapping):
        return ProtocolFields()
    try:
        return _read(content)
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidRecordError(
            f"The extra fields of record {record.id!r} of source {record.source!r} cannot be read ({error}); "
            "import the data again."
        ) from None


def _read(content: Mapping[str, Any]) -> ProtocolFields:
    category_id = content.get("category_id")
    types, boxes = content.get("phrase_types"), content.get("phrase_boxes")
    crowds: list[tuple[float, ...]] = []
    for crowd in content.get("crowds") or ():
        crowds.append(tuple(map(float, crowd)))
    return ProtocolFields(
        category_id=None if category_id is None else int(category_id),
        name=_optional_text(content.get("name")),
        frequency=str(content.get("frequency") or ""),
        exhaustive=bool(content.get("exhaustive", True)),
        areas=tuple(map(float, content.get("areas") or ())),
        crowds=tuple(crowds),
        phrase_types=None if types is None else tuple(map(tuple, types)),
        phrase_boxes=None if boxes is None else tuple(map(_boxes, boxes)),
        structure=_structure(content.get("phrase_structure")),
        is_question="questionId" in content or "question_index" in content,
        question_type=_optional_text(content.get("question_type")),
        structural=_optional_text(content.get("structural")),
        group=_optional_text(content.get("group")),
        valid=_optional_texts(content.get("valid")),
        plausible=_optional_texts(content.get("plausible")),
        entailed=_optional_texts(content.get("entailed")),
        absent=_optional_texts(content.get("absent")),
    )


def _structure(content: Mapping[str, Any] | None) -> PhraseStructure | None:
    if not content:
        return None
    attributes, relations = content.get("attributes"), content.get("relation_descriptions")
    return PhraseStructure(str(content.get("type") or ""), bool(attributes), bool(relations))


def _boxes(content: Any) -> tuple[Box, ...]:
    return tuple((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in content)


def _optional_text(value: Any) -> str | None:
    return None if value is None else str(value)


def _optional_texts(values: Any) -> tuple[str, ...] | None:
    return None if values is None else tuple(map(str, values))
