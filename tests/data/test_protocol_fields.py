"""What the protocols of the tasks read off the extra fields of a record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mdetr.data.protocol_fields import PhraseStructure, ProtocolFields, protocol_fields
from mdetr.data.record import Record
from mdetr.errors import InvalidRecordError


def _record(extra: Any) -> Record:
    content = None if extra is None else json.dumps(extra)
    return Record("made-up", "test", "7", "none.png", "0", 200, 100, "a red cube", extra=content)


@pytest.mark.parametrize("extra", [None, {}, [], {"sentence_id": 3, "original_ids": [4]}])
def test_a_record_without_a_protocols_fields_has_none(extra: Any) -> None:
    assert protocol_fields(_record(extra)) == ProtocolFields()


def test_fields_have_one_type_each() -> None:
    fields = protocol_fields(
        _record(
            {
                "category_id": "12",
                "name": "cup",
                "frequency": None,
                "exhaustive": False,
                "areas": [4, 2.5],
                "crowds": [[12, 0, 0, 10, 5]],
                "phrase_types": [["people", "clothing"], []],
                "phrase_boxes": [[[0, 1, 2, 3]]],
                "phrase_structure": {"type": "attribute", "attributes": ["red"], "relation_descriptions": []},
                "questionId": "q",
                "valid": ["red"],
                "entailed": [3],
                "absent": ["dog"],
            }
        )
    )
    assert (fields.category_id, fields.name, fields.frequency, fields.exhaustive) == (12, "cup", "", False)
    assert (fields.areas, fields.crowds) == ((4.0, 2.5), ((12.0, 0.0, 0.0, 10.0, 5.0),))
    assert fields.phrase_types == (("people", "clothing"), ())
    assert fields.phrase_boxes == (((0.0, 1.0, 2.0, 3.0),),)
    assert fields.structure == PhraseStructure("attribute", has_attributes=True, has_relations=False)
    assert fields.is_question
    assert (fields.valid, fields.entailed, fields.absent) == (("red",), ("3",), ("dog",))


@pytest.mark.parametrize("extra", [{"category_id": "cup"}, {"areas": 4}, {"phrase_boxes": [[[0, 1]]]}])
def test_fields_of_another_type_are_refused_with_the_record(extra: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecordError, match=r"record '7' of source 'made-up' cannot be read .*import"):
        protocol_fields(_record(extra))
