"""Odd recipes and configurations of models."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mdetr import MdetrConfig
from mdetr.labeling.class_phrases import read_class_phrases
from mdetr.training.recipe_file import load_recipe, parse_recipe, to_yaml
from tests.corpus.cases import OUTPUT, Case, Refused, command

_RECIPE = """
model: {start_from: clevr-tiny}
data:
  train: [{store: mine.jsonl}]
  validation: {mine: {store: mine.jsonl, tasks: [phrase_grounding]}}
optimizer: {epochs: 10, batch_size: 8}
seed: 7
"""


def _bomb(levels: int = 12) -> str:
    """YAML of a few lines whose aliases stand for 10**`levels` texts."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


def _flow_bomb(levels: int = 12) -> str:
    """The same as one value: each list holds the one before ten times."""
    value = "&b0 [x, x, x, x, x, x, x, x, x, x]"
    for level in range(1, levels):
        value = f"&b{level} [{value}, {', '.join([f'*b{level - 1}'] * 9)}]"
    return value


def _read(content: bytes | str, *changes: str) -> Callable[[Path], object]:
    """Read a recipe, and return its seed, which a recipe that is written and read again has too."""

    def act(folder: Path) -> object:
        file = folder / "recipe.yaml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        recipe = load_recipe(file, changes)
        file.write_text(to_yaml(recipe))
        assert load_recipe(file) == recipe
        return recipe.seed

    return act


def _with(old: str, new: str) -> Callable[[Path], object]:
    assert old in _RECIPE
    return _read(_RECIPE.replace(old, new))


_GOOD: dict[str, Callable[[Path], object]] = {
    "as it should be": _read(_RECIPE),
    "with a byte order mark": _read("\ufeff" + _RECIPE),
    "with CRLF": _read(_RECIPE.replace("\n", "\r\n")),
    "with paths in unicode": _with("mine.jsonl", '"données/文件 1.jsonl"'),
    "with nothing to train on, for evaluation": _with("[{store: mine.jsonl}]", "[]"),
    "with an alias": _read(_RECIPE.replace("seed: 7", "seed: &a 7") + "\n"),
    "changed to a rate as text": _read(_RECIPE, "optimizer.lr=1e-4"),
    "changed to another folder": _read(_RECIPE, "data=../x y/é.jsonl"),
}
CASES = [Case(name, act, 7) for name, act in _GOOD.items()]
_BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (_read(""), "expected keys"),
    "of a list": (_read("[1, 2]"), "expected keys"),
    "of a text": (_read("train it"), "expected keys"),
    "cut off": (_read(_RECIPE[:60]), "not valid YAML"),
    "in UTF-16": (_read(_RECIPE.encode("utf-16")), "not valid YAML"),
    "in Latin-1": (_read("# é\n".encode("latin-1") + _RECIPE.encode()), "not valid YAML"),
    "of zeros": (_read(b"\0" * 99), "not valid YAML"),
    "with tabs": (_read("model:\n\tstart_from: clevr-tiny\n"), "not valid YAML"),
    "with a key twice": (_read(_RECIPE + "seed: 8\n"), "duplicate key seed"),
    "with a list as key": (_read("? [a, b]\n: 7\n"), "not valid YAML"),
    "with a mapping as key": (_read("? {a: b}\n: 7\n"), "not valid YAML"),
    "with a number as key": (_read(_RECIPE + "7: 8\n"), "Keys should be strings"),
    "with a date that does not exist": (_read(_RECIPE + "a: 2020-99-99\n"), "not valid YAML"),
    "with a whole number of letters": (_read(_RECIPE + "a: !!int cube\n"), "not valid YAML"),
    "with an object of Python": (_read("a: !!python/object/apply:os.system [true]\n"), "not valid YAML"),
    "that contains itself": (_read("run: &a {seed: *a}\n" + _RECIPE), ""),
    "with an alias of nothing": (_read("run: *a\n"), "not valid YAML"),
    "of two documents": (_read(_RECIPE + "---\n" + _RECIPE), "not valid YAML"),
    "nested 100,000 deep": (_read("a: " + "[" * 100_000), "nested too deeply"),
    "nested 100,000 deep by lines": (_read("- " * 100_000), "nested too deeply"),
    "of aliases that multiply": (_read(_bomb() + _RECIPE), "aliases"),
    "with a seed of aliases that multiply": (
        _read(_bomb() + _RECIPE.replace("seed: 7", "seed: *a11")),
        "aliases",
    ),
    "with a batch of aliases that multiply": (
        _with("batch_size: 8", f"batch_size: {_flow_bomb()}"),
        "aliases",
    ),
    "with a model of aliases that multiply": (
        _with("start_from: clevr-tiny", f"config: {{hidden_size: {_flow_bomb()}}}"),
        "",
    ),
    "with an unknown section": (_read(_RECIPE + "optimzer: {lr: 1}\n"), "did you mean optimizer"),
    "with an unknown key": (_with("seed: 7", "sed: 7"), "did you mean seed"),
    "with an unknown field of the model": (
        _read(_RECIPE.replace("start_from: clevr-tiny", "config: {hiden_size: 9}")),
        "did you mean hidden_size",
    ),
    "without data": (_read("model: {start_from: clevr-tiny}\n"), "data"),
    "with data of null": (_read("data: null\n"), "data"),
    "with a section that is a list": (_read(_RECIPE + "run: [7]\n"), "run"),
    "with a seed of words": (_with("seed: 7", "seed: lucky"), "seed"),
    "with a seed of NaN": (_with("seed: 7", "seed: .nan"), "seed"),
    "with a batch of -1": (_with("batch_size: 8", "batch_size: -1"), "optimizer.batch_size"),
    "with a batch of 0": (_with("batch_size: 8", "batch_size: 0"), "optimizer.batch_size"),
    "with a rate of NaN": (_with("batch_size: 8", "batch_size: 8, lr: .nan"), "optimizer.lr"),
    "with a rate of infinity": (_with("batch_size: 8", "batch_size: 8, lr: .inf"), "optimizer.lr"),
    "with a rate of -1": (_with("batch_size: 8", "batch_size: 8, lr: -1"), "optimizer.lr"),
    "with no length": (_with("epochs: 10, ", ""), "neither"),
    "with two lengths": (_with("epochs: 10", "epochs: 10, steps: 5"), "both"),
    "with epochs of 0": (_with("epochs: 10", "epochs: 0"), "optimizer.epochs"),
    "with a store that is null": (_with("[{store: mine.jsonl}]", "[{store: null}]"), "data.train"),
    "with an unknown task": (_with("phrase_grounding", "fraze_grounding"), "unknown task"),
    "that does not exist": (lambda folder: load_recipe(folder / "x.yaml"), "There is no recipe"),
    "that is a folder": (load_recipe, "There is no recipe"),
    "with a name that leaves the folder": (lambda _: load_recipe("../../none/passwd"), "There is no recipe"),
    "with a name of 5,000 letters": (lambda _: load_recipe("x" * 5000), "There is no recipe"),
    "with a null character in its name": (lambda _: load_recipe("a\0b"), "There is no recipe"),
    "without permission": (lambda folder: _forbidden(folder), "cannot be read"),
    "changed without a value": (_read(_RECIPE, "seed"), "expected key=value"),
    "changed without a key": (_read(_RECIPE, "=7"), "expected key=value"),
    "changed at no key": (_read(_RECIPE, "sed=7"), "did you mean seed"),
    "changed inside a number": (_read(_RECIPE, "seed.x=7"), "no such key"),
    "changed at the 9th store of one": (_read(_RECIPE, "data.train.9.store=x"), "no such key"),
    "changed to broken YAML": (_read(_RECIPE, "seed=[7"), "not valid YAML"),
    "changed to a date that does not exist": (_read(_RECIPE, "seed=2020-99-99"), "not valid YAML"),
    "changed to a deep list": (_read(_RECIPE, "seed=" + "[" * 100_000), "not valid YAML"),
    "whose model is null, changed": (_read("model: null\n", "model=clevr-tiny"), "data"),
    "whose data are null, changed": (_read("data: null\n", "data=a.jsonl"), ""),
    "whose data are a list, changed": (_read("data: [1]\n", "data=a.jsonl"), ""),
    "whose validation is a list, changed": (_read("data: {validation: [1]}\n", "data=a.jsonl"), ""),
    "whose optimizer is a list, changed": (_read("optimizer: [1]\n", "optimizer.steps=7"), ""),
    "that is an object of Python": (lambda _: parse_recipe({"data": object}), "data"),
}
CASES += [Case(name, act, Refused(words)) for name, (act, words) in _BAD.items()]


def as_nobody(act: Callable[[], object]) -> object:
    """Do something without the rights of root, which may read every file."""
    if os.geteuid():
        return act()
    os.seteuid(65534)
    try:
        return act()
    finally:
        os.seteuid(0)


def _forbidden(folder: Path) -> object:
    folder.chmod(0o755)
    file = folder / "recipe.yaml"
    file.write_text(_RECIPE)
    file.chmod(0)
    return as_nobody(lambda: load_recipe(file))


def _trained(*changes: str) -> Callable[[Path], object]:
    """Try to train by a shipped recipe, which is refused before anything is written."""

    def act(folder: Path) -> object:
        changed = [part for change in changes for part in ("--set", change)]
        return command("train", "finetune", "--output", folder / OUTPUT, *changed)

    return act


CASES += [
    Case("training on a file that is missing", _trained("data=none.jsonl"), Refused("There is no file none")),
    Case("training on a store that is missing", _trained("data=none"), Refused("There is no store none")),
    Case("training on an unknown model", _trained("model=none"), Refused("There is no")),
]


# Configurations of models
def _configured(**fields: Any) -> Callable[[Path], object]:
    return lambda _: MdetrConfig(**fields).hidden_size


_CONFIGURATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a width of words": ({"hidden_size": "wide"}, "hidden_size"),
    "a width of 0": ({"hidden_size": 0}, "hidden_size"),
    "a width of -256": ({"hidden_size": -256}, "hidden_size"),
    "a width of half a number": ({"hidden_size": 256.5}, "hidden_size"),
    "a width that the heads do not divide": ({"hidden_size": 250}, "multiple"),
    "no heads": ({"encoder_attention_heads": 0}, "encoder_attention_heads"),
    "heads of null": ({"encoder_attention_heads": None}, "encoder_attention_heads"),
    "a list of layers": ({"encoder_layers": [6]}, "encoder_layers"),
    "-1 queries": ({"num_queries": -1}, "num_queries"),
    "a dropout of NaN": ({"dropout": float("nan")}, "dropout"),
    "a dropout of words": ({"dropout": "much"}, "dropout"),
    "a backbone of null": ({"backbone": None}, "backbone"),
    "an unknown norm": ({"backbone_norm": "none"}, "backbone_norm must be one of"),
    "a text encoder of words": ({"text_config": "roberta"}, "text_config"),
    "a text encoder of an unknown type": ({"text_config": {"model_type": "x"}}, "text_config"),
    "answers without words": ({"answer_queries": ["answer"]}, "answer_vocabulary"),
    "answers that are a number": ({"answer_queries": 7}, "answer_queries"),
    "a vocabulary that is a list": ({"answer_vocabulary": ["yes"]}, "answer_vocabulary"),
}
for name, (fields, words) in _CONFIGURATIONS.items():
    CASES.append(Case(f"configuration with {name}", _configured(**fields), Refused(words)))
CASES.append(Case("configuration with numbers written whole", _configured(dropout=0, bbox_cost=5), 256))


# Phrases of classes for `mdetr label`
def _phrases(content: bytes) -> Callable[[Path], object]:
    def act(folder: Path) -> object:
        (folder / "classes.yaml").write_bytes(content)
        return [phrase.phrase for phrase in read_class_phrases(folder / "classes.yaml")]

    return act


CASES.append(
    Case("phrases of classes called no and null", _phrases(b"no: [null, 7]\nyes:"), ["null", "7", "yes"])
)
for name, content in {
    "empty": b"",
    "of a list": b"[cat]",
    "nested 100,000 deep": b"cat: " + b"[" * 100_000,
    "with a list as key": b"? [a]\n: b",
    "in UTF-16": "cat: a cat".encode("utf-16-le"),
    "with half a character": b'cat: "\\ud83d"',
    "with a phrase twice": b"cat: a\ndog: a",
    "with a threshold of NaN": b"cat: {phrases: a, threshold: .nan}",
    "that multiply": _bomb().encode(),
}.items():
    CASES.append(Case(f"phrases of classes {name}", _phrases(content), Refused("")))
