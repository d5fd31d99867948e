"""Whatever is in a file, its reader gives valid records or one plain sentence, and leaves nothing behind."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from mdetr.data.store import Store
from mdetr.errors import MdetrError
from mdetr.training.recipe_file import load_recipe, to_yaml
from tests.corpus.cases import OUTPUT, Case, Refused, command, judge
from tests.corpus.images import quarters
from tests.data.sources.samples import SAMPLES

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["a.png", "a red cube", 1, 5, 7, [2, 2, 10, 7], [[0, 5]], ""]),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=6), values, max_size=3),
    max_leaves=6,
)
_COCO = SAMPLES["coco"].files["c.json"]
_LINE = {"image": "a.png", "text": "a red cube", "boxes": [[1, 2, 30, 20]], "phrases": ["red cube"]}
_RECIPE = """model: {start_from: clevr-tiny}
data:
  train: [{store: mine.jsonl}]
  validation: {mine: {store: mine.jsonl, tasks: [phrase_grounding]}}
optimizer: {epochs: 10, batch_size: 8}
seed: 7
"""


def _right_or_refused(act: Callable[[Path], object]) -> None:
    """Run something in an empty folder: it ends well, or with a refusal that the corpus would accept."""

    def refusal_or_value(folder: Path) -> object:
        value = act(folder)
        raise _Right(value)

    with TemporaryDirectory() as folder:
        outcome = judge(Case("generated", refusal_or_value, Refused("")), Path(folder))
    assert outcome.verdict == "refused" or outcome.detail.startswith("_Right: "), outcome.detail


class _Right(Exception):
    """An input was read, which is as good as a refusal."""


def _imported(source: str, name: str, content: str) -> Callable[[Path], object]:
    def act(folder: Path) -> object:
        quarters().save(folder / "a.png")
        (folder / name).write_text(content, encoding="utf-8", errors="surrogatepass")
        command("data", "import", source, folder / name, folder / OUTPUT)
        return len(list(Store.open(folder / OUTPUT)))

    return act


@st.composite
def _changed(draw: Any, value: Any) -> Any:
    """A copy of nested lists and objects, of which one part is replaced, removed or added."""
    content = copy.deepcopy(value)
    part = content
    while True:
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        if not keys:
            return content
        key = draw(st.sampled_from(keys))
        if isinstance(part[key], dict | list) and draw(st.booleans()):
            part = part[key]
            continue
        how = draw(st.sampled_from(["replace", "remove", "add"]))
        if how == "replace":
            part[key] = draw(_JSON)
        elif how == "remove":
            del part[key]
        elif isinstance(part, dict):
            part[draw(st.text(max_size=5))] = draw(_JSON)
        else:
            part.append(draw(_JSON))
        return content


@given(_changed(_COCO))
def test_any_file_of_coco_gives_records_or_a_sentence(content: Any) -> None:
    _right_or_refused(_imported("coco", "c.json", json.dumps(content)))


@given(st.lists(_changed(_LINE).map(json.dumps) | _JSON.map(json.dumps) | st.text(max_size=20), max_size=4))
@example([json.dumps(_LINE)])
def test_any_lines_of_json_give_records_or_a_sentence(lines: list[str]) -> None:
    _right_or_refused(_imported("jsonl", "a.jsonl", "\n".join(lines)))


@given(
    start=st.integers(0, len(_RECIPE)),
    length=st.integers(0, 30),
    put=st.text("abst:{}[]&*!|>-#'\"\n\t ,.017~%@\\", max_size=12) | _JSON.map(json.dumps),
)
@example(start=0, length=0, put="0[")
def test_any_recipe_is_read_again_as_it_was_or_refused_in_a_sentence(
    start: int, length: int, put: str
) -> None:
    def act(folder: Path) -> object:
        file = folder / "recipe.yaml"
        file.write_text(_RECIPE[:start] + put + _RECIPE[start + length :], encoding="utf-8")
        recipe = load_recipe(file)
        file.write_text(to_yaml(recipe))
        assert load_recipe(file) == recipe
        return recipe.seed

    _right_or_refused(act)


def test_a_traceback_would_be_seen() -> None:
    def broken(_: Path) -> object:
        raise MdetrError("Unexpected KeyError: 'a'")

    try:
        _right_or_refused(broken)
    except AssertionError as error:
        assert "no plain sentence" in str(error)
    else:
        raise AssertionError("a traceback was not seen")
