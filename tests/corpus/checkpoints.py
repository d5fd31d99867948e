"""Damaged and odd checkpoints of a run, which `mdetr train --resume` continues."""

from __future__ import annotations

import json
import pickle
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.corpus.cases import OUTPUT, Case, Refused, command
from tests.corpus.stores import put_recipe, put_store

CHECKPOINT = "checkpoint-2"
NAN = float("nan")


def prepare() -> None:
    """Train the models that all cases use."""
    trained()


@cache
def trained() -> tempfile.TemporaryDirectory[str]:
    """A folder with a store and two runs of two steps, of a model and of a narrower one."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name)
    put_store(path)
    recipe = put_recipe(path)
    short = ("--set", "optimizer.steps=2", "--set", "data.validation={}")
    command("train", recipe, "--output", path / "run", *short)
    narrow = ("--set", "model.config.hidden_size=32")
    command("train", recipe, "--output", path / "other", *short, *narrow)
    return folder


def _resumed(change: Callable[[Path], object], *options: str) -> Callable[[Path], object]:
    """Change the checkpoint of a run, resume the run for a third step, and return the steps of its log."""

    def act(folder: Path) -> object:
        shutil.copytree(Path(trained().name) / "run", folder / "run")
        put_store(folder)
        change(folder / "run" / CHECKPOINT)
        steps = ("--set", "optimizer.steps=3", "--set", "data.validation={}", *options)
        command("train", put_recipe(folder), "--output", folder / "run", "--resume", *steps)
        last = max((folder / "run").glob("checkpoint-[0-9]*/trainer_state.json"))
        state = json.loads(last.read_text())
        return [int(entry["step"]) for entry in state["log_history"] if "loss" in entry]

    return act


# What happens to a file
def written(name: str, content: bytes) -> Callable[[Path], object]:
    """Write other bytes to a file."""
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str) -> Callable[[Path], object]:
    """Keep half of a file."""

    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return change


def removed(name: str) -> Callable[[Path], object]:
    """Remove a file."""
    return lambda folder: (folder / name).unlink()


def folder_instead(name: str) -> Callable[[Path], object]:
    """Put a folder in the place of a file."""
    return lambda folder: ((folder / name).unlink(), (folder / name).mkdir())


def described(name: str, **fields: Any) -> Callable[[Path], object]:
    """Change fields of a JSON file."""

    def change(folder: Path) -> None:
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | fields))

    return change


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    """Change the tensors of a safetensors file, and keep its metadata."""

    def act(folder: Path) -> None:
        content = load_file(folder / name)
        with safe_open(folder / name, "pt") as file:
            metadata = file.metadata()
        change(content)
        save_file({key: value.contiguous() for key, value in content.items()}, folder / name, metadata)

    return act


def first_weight(value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    """Set a weight."""
    return lambda content: content[sorted(content)[0]].fill_(value)


def narrowed(content: dict[str, torch.Tensor]) -> None:
    """Halve the shape of a tensor."""
    name = next(name for name in sorted(content) if content[name].ndim == 2)
    content[name] = content[name][: len(content[name]) // 2]


def lacking(content: dict[str, torch.Tensor]) -> None:
    """Remove a tensor."""
    del content[sorted(content)[0]]


def _of_other(name: str) -> Callable[[Path], object]:
    """Take a file from the run of another model."""
    return lambda folder: shutil.copy(Path(trained().name) / "other" / CHECKPOINT / name, folder / name)


def _saved(name: str, content: Any) -> Callable[[Path], object]:
    return lambda folder: torch.save(content, folder / name)


def _optimizer(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change the state of the optimizer."""

    def act(folder: Path) -> None:
        content = torch.load(folder / "optimizer.pt", weights_only=True)
        change(content)
        torch.save(content, folder / "optimizer.pt")

    return act


def _moment(name: str, value: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], object]:
    def change(content: dict[str, Any]) -> None:
        state = next(iter(content["state"].values()))
        state[name] = value(state[name])

    return change


class Attack:
    """An object whose pickle runs a program."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({OUTPUT!r}, 'w')",)


_MODEL, _EMA, _OPTIMIZER = "model.safetensors", "ema.safetensors", "optimizer.pt"
_SCALER, _RANDOM, _STATE = "scaler.pt", "random-0.safetensors", "trainer_state.json"
_RIGHT: dict[str, Callable[[Path], object]] = {
    "as it should be": lambda _: None,
    "without random state, as of fewer processes": removed(_RANDOM),
    "beside an unfinished one": lambda folder: (folder.with_name("checkpoint-9")).mkdir(),
    "beside a folder with a word for its step": lambda folder: shutil.copytree(
        folder, folder.with_name("checkpoint-best")
    ),
    "beside a file named like one": lambda folder: folder.with_name("checkpoint-7").write_text("x"),
    "behind a link": lambda folder: (
        folder.rename(folder.parent.parent / "kept"),
        folder.symlink_to(folder.parent.parent / "kept"),
    ),
    "with a scaler that is a list, of a run that does not scale": _saved(_SCALER, [7]),
    "of a run without log": lambda folder: shutil.rmtree(folder.parent / "logs"),
    "of a run without model": lambda folder: shutil.rmtree(folder.parent / "model"),
}
CASES = [Case(f"a checkpoint {name}", _resumed(change), [1, 2, 3]) for name, change in _RIGHT.items()]
_BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "that is removed": (shutil.rmtree, "no checkpoint"),
    "that is unfinished": (removed("complete"), "no checkpoint"),
    "that is empty": (
        lambda folder: (shutil.rmtree(folder), folder.mkdir(), (folder / "complete").touch()),
        "checkpoint-2",
    ),
    "of another step than its name": (described(_STATE, global_step=7), "step 7"),
    "of a step in words": (described(_STATE, global_step="two"), "step 'two'"),
    "of step -2": (described(_STATE, global_step=-2), "step -2"),
    "of step null": (described(_STATE, global_step=None), "step None"),
    "whose log is null": (described(_STATE, log_history=None), "no log"),
    "whose log is of numbers": (described(_STATE, log_history=[7]), "no log"),
    "whose log is of words": (described(_STATE, log_history=[{"loss": "high"}]), "no log"),
    "whose state is a list": (written(_STATE, b"[]"), "JSON object"),
    "whose state is nested 200,000 deep": (written(_STATE, b"[" * 200_000), "nested"),
    "whose state is in UTF-16": (written(_STATE, b"\xff\xfe{\0}\0"), "UTF-8"),
    "whose state has one field": (written(_STATE, b'{"global_step": 2}'), "no log"),
    "with the weights of another model": (_of_other(_MODEL), ""),
    "with the average of another model": (_of_other(_EMA), "another model"),
    "with the optimizer of another model": (_of_other(_OPTIMIZER), "another"),
    "with the configuration of another model": (_of_other("config.json"), ""),
    "with the weights as average": (
        lambda folder: shutil.copy(folder / _MODEL, folder / _EMA),
        "",
    ),
    "with weights of another shape": (tensors(_MODEL, narrowed), ""),
    "with weights that are missing": (tensors(_MODEL, lacking), "missing"),
    "with weights of NaN": (tensors(_MODEL, first_weight(NAN)), "not finite"),
    "with infinite weights": (tensors(_MODEL, first_weight(float("inf"))), "not finite"),
    "with one weight more": (
        tensors(_MODEL, lambda content: content.update(more=torch.zeros(2))),
        "more",
    ),
    "with an average of NaN": (tensors(_EMA, first_weight(NAN)), "not finite"),
    "with an average of another shape": (tensors(_EMA, narrowed), "another model"),
    "with an average without its number of updates": (
        lambda folder: save_file(load_file(folder / _EMA), folder / _EMA),
        _EMA,
    ),
    "with an average of many updates": (
        lambda folder: save_file(load_file(folder / _EMA), folder / _EMA, {"updates": "many"}),
        "",
    ),
    "with an optimizer of nothing": (_saved(_OPTIMIZER, {}), ""),
    "with an optimizer that is a number": (_saved(_OPTIMIZER, 7), ""),
    "with an optimizer that is a list": (_saved(_OPTIMIZER, [7]), ""),
    "with an optimizer without state": (_optimizer(lambda c: c.update(state={})), "no moments"),
    "with an optimizer without groups": (_optimizer(lambda c: c.update(param_groups=[])), ""),
    "with an optimizer with a group less": (_optimizer(lambda c: c["param_groups"].pop()), ""),
    "with an optimizer without a moment": (
        _optimizer(lambda c: next(iter(c["state"].values())).pop("exp_avg_sq")),
        "exp_avg_sq",
    ),
    "with a moment of another shape": (
        _optimizer(_moment("exp_avg", lambda moment: moment.flatten()[:1])),
        "exp_avg",
    ),
    "with a moment that is a text": (_optimizer(_moment("exp_avg", lambda _: "much")), ""),
    "with a moment of NaN": (_optimizer(_moment("exp_avg", lambda m: m * NAN)), "not finite"),
    "with an optimizer that runs a program": (written(_OPTIMIZER, pickle.dumps(Attack())), ""),
    "with an optimizer of a foreign object": (_saved(_OPTIMIZER, Path("a")), ""),
    "with a scaler of a foreign object": (_saved(_SCALER, Path("a")), ""),
    "with a random state of another shape": (
        lambda folder: save_file({"cpu": torch.zeros(3, dtype=torch.uint8)}, folder / _RANDOM),
        "",
    ),
    "with a random state of floats": (
        lambda folder: save_file({"cpu": torch.zeros(5056)}, folder / _RANDOM),
        "",
    ),
    "with a random state of another name": (
        lambda folder: save_file({"gpu": torch.zeros(3)}, folder / _RANDOM),
        "",
    ),
    "with a tokenizer of nothing": (written("tokenizer.json", b"{}"), "checkpoint-2"),
    "with a processor of nothing": (written("processor_config.json", b"7"), "checkpoint-2"),
    "in a file": (
        lambda folder: (shutil.rmtree(folder.parent), folder.parent.write_text("x")),
        "no checkpoint",
    ),
}
for _name in (_MODEL, _EMA, _OPTIMIZER, _SCALER, _STATE, "config.json", "tokenizer.json"):
    _BAD[f"without {_name}"] = removed(_name), "checkpoint-2"
    _BAD[f"with a folder for {_name}"] = folder_instead(_name), "checkpoint-2"
for _name in (_MODEL, _EMA, _OPTIMIZER, _SCALER, _RANDOM, _STATE, "config.json"):
    _BAD[f"with an empty {_name}"] = written(_name, b""), "checkpoint-2"
    _BAD[f"with a {_name} that is cut"] = cut(_name), "checkpoint-2"
    _BAD[f"with a {_name} of zeros"] = written(_name, b"\0" * 999), "checkpoint-2"
CASES += [Case(f"a checkpoint {name}", _resumed(act), Refused(words)) for name, (act, words) in _BAD.items()]
CASES += [
    Case(
        "a checkpoint, resumed with fewer steps than it has",
        _resumed(lambda _: None, "--set", "optimizer.steps=1"),
        [1, 2],
    ),
    Case("a checkpoint, not resumed", lambda folder: _again(folder), Refused("--resume")),
]


def _again(folder: Path) -> object:
    """Train in the folder of a run."""
    shutil.copytree(trained().name, folder, dirs_exist_ok=True)
    return command("train", put_recipe(folder), "--output", folder / "run")
