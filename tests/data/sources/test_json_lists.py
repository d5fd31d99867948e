"""Tests of reading one list of a large JSON file, entry by entry."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdetr.data.sources import json_lists
from mdetr.data.sources.json_lists import iterate_list
from mdetr.errors import InvalidInputError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3)
    ),
    max_leaves=6,
)


@given(before=values, entries=st.lists(values, max_size=6), after=values, chunk=st.integers(1, 7))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_list_is_read_whatever_stands_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Any, entries: list[Any], after: Any, chunk: int
) -> None:
    monkeypatch.setattr(json_lists, "_CHUNK", chunk)  # so that every place of a cut occurs
    path = tmp_path / "file.json"
    path.write_text(json.dumps({"info": before, "things": entries, "more": after}, indent=1))
    assert list(iterate_list(path, "things")) == entries


def test_a_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    path.write_text(json.dumps({"things": [{"number": n, "text": "x" * 1000} for n in range(20_000)]}))
    tracemalloc.start()
    assert sum(entry["number"] for entry in iterate_list(path, "things")) == sum(range(20_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 20e6
    assert peak < 8e6


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"things": 3}', '{"other": []}', '{"things": [1, 2', '{"things": [1 2]}', "x"]
)
def test_anything_else_is_refused_with_the_files_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=r'file\.json is not a JSON object with a list "things"'):
        list(iterate_list(path, "things"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"There is no file .*gone\.json"):
        list(iterate_list(tmp_path / "gone.json", "things"))


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps({"things": [1, 2]}), encoding="utf-8-sig")
    assert list(iterate_list(path, "things")) == [1, 2]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"things": ["café"]}', encoding=encoding)
    with pytest.raises(InvalidInputError, match=r"file\.json is not UTF-8 text .* save it in UTF-8"):
        list(iterate_list(path, "things"))


def test_what_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"things": ' + "[" * 200_000)
    with pytest.raises(InvalidInputError, match=r"file\.json is not a JSON object"):
        list(iterate_list(path, "things"))
