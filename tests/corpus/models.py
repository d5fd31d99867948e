"""Damaged and odd folders of models, also of exported models and baselines, given to what loads a model."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from mdetr import Mdetr
from tests.corpus.cases import Case, Refused, command
from tests.corpus.checkpoints import (
    NAN,
    Attack,
    cut,
    described,
    first_weight,
    folder_instead,
    lacking,
    narrowed,
    removed,
    tensors,
    trained,
    written,
)
from tests.corpus.stores import put_recipe, put_store

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_TOKENIZER, _PROCESSOR = "tokenizer.json", "processor_config.json"


# Programs that load a model
def _from_pretrained(model: Path) -> object:
    return type(Mdetr.from_pretrained(model).model).__name__


def _ground(model: Path) -> object:
    image = next((model.parent / "images").iterdir())
    result = model.parent / "found.json"
    command("ground", image, "a red cube", "--model", model, "--json", result)
    return "MdetrForObjectDetection" if result.is_file() else None


def _evaluate(model: Path) -> object:
    recipe = put_recipe(model.parent)
    output = model.parent / "run"
    command("evaluate", recipe, "--model", model, "--output", output, "--worst", 0)
    return "MdetrForObjectDetection" if (output / "shapes.parquet").is_file() else None


def _finetune(model: Path) -> object:
    recipe = put_recipe(model.parent)
    changes = (f"model={{start_from: {model}}}", "optimizer.steps=1", "data.validation={}")
    options = [part for change in changes for part in ("--set", change)]
    command("train", recipe, "--output", model.parent / "run", *options)
    return "MdetrForObjectDetection"


_LOADERS: dict[str, Callable[[Path], object]] = {
    "from_pretrained of": _from_pretrained,
    "ground with": _ground,
    "evaluate": _evaluate,
    "fine-tune": _finetune,
}


def _changed(change: Callable[[Path], object], load: Callable[[Path], object]) -> Callable[[Path], object]:
    """Change a copy of a model's folder, and load it."""

    def act(folder: Path) -> object:
        model = shutil.copytree(Path(trained().name) / "run" / "model", folder / "model")
        put_store(folder)
        change(model)
        return load(model)

    return act


def _of_other(name: str) -> Callable[[Path], object]:
    """Take a file from the folder of a narrower model."""
    return lambda model: shutil.copy(Path(trained().name) / "other" / "model" / name, model / name)


def _of_bundled(name: str) -> Callable[[Path], object]:
    """Take a file from the folder of a model with many more tokens."""
    return lambda model: shutil.copy(_BUNDLED / name, model / name)


def _half(model: Path) -> None:
    weights = {name: tensor.half() for name, tensor in load_file(model / _WEIGHTS).items()}
    save_file(weights, model / _WEIGHTS, {"format": "pt"})


def _pickled(model: Path) -> None:
    """Put the weights into a pickle that runs a program."""
    (model / _WEIGHTS).unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Attack()))


_BUNDLED = Path(__file__).parents[2] / "src" / "mdetr" / "assets" / "models" / "photo-tiny"
_GOOD: dict[str, Callable[[Path], object]] = {
    "as it should be": lambda _: None,
    "in half precision": _half,
    "with a file of the user": lambda model: (model / "notes.txt").write_text("mine"),
    "with a pickle beside the weights": lambda model: (model / "pytorch_model.bin").write_bytes(
        pickle.dumps(Attack())
    ),
    "without the file for other programs": removed("auto_mdetr.py"),
    "with a file for other programs that is garbled": written("auto_mdetr.py", b"raise SystemExit"),
    "with a field that nobody knows": described(_CONFIG, more=7),
    "with a tokenizer whose class nobody knows": described("tokenizer_config.json", tokenizer_class="None"),
    "with a processor of the class of another": described(_PROCESSOR, processor_class="CLIPProcessor"),
}
_BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "that is removed": (shutil.rmtree, "There is no folder"),
    "that is empty": (lambda model: (shutil.rmtree(model), model.mkdir()), "config.json"),
    "that is a file": (lambda model: (shutil.rmtree(model), model.write_text("x")), "is a file"),
    "that is a link to itself": (lambda model: (shutil.rmtree(model), model.symlink_to(model)), ""),
    "of another type": (described(_CONFIG, model_type="bert"), "'bert'"),
    "of no type": (described(_CONFIG, model_type=None), "of type None"),
    "of a type that is a list": (described(_CONFIG, model_type=["mdetr"]), "of type"),
    "whose configuration is a list": (written(_CONFIG, b"[]"), "JSON object"),
    "whose configuration is nested 200,000 deep": (written(_CONFIG, b"[" * 200_000), "nested"),
    "whose configuration is in UTF-16": (written(_CONFIG, b"\xff\xfe{\0}\0"), "UTF-8"),
    "of another width": (described(_CONFIG, hidden_size=32), ""),
    "of a width in words": (described(_CONFIG, hidden_size="wide"), "hidden_size"),
    "of more queries": (described(_CONFIG, num_queries=99), ""),
    "of an unknown backbone": (described(_CONFIG, backbone="resnet0"), "resnet0"),
    "of a text encoder of words": (described(_CONFIG, text_config="roberta"), "text_config"),
    "whose configuration is that of another model": (_of_other(_CONFIG), ""),
    "whose weights are those of another model": (_of_other(_WEIGHTS), ""),
    "whose weights are a pickle that runs a program": (_pickled, _WEIGHTS),
    "with a pickle that runs a program for its weights": (
        written(_WEIGHTS, pickle.dumps(Attack())),
        "damaged",
    ),
    "whose weights have another shape": (tensors(_WEIGHTS, narrowed), ""),
    "whose weights lack one": (tensors(_WEIGHTS, lacking), "missing"),
    "whose weights have one more": (
        tensors(_WEIGHTS, lambda content: content.update(more=torch.zeros(2))),
        "more",
    ),
    "whose weights are NaN": (tensors(_WEIGHTS, first_weight(NAN)), "not finite"),
    "whose weights are infinite": (tensors(_WEIGHTS, first_weight(float("inf"))), "not finite"),
    "whose weights announce 1 TB": (
        written(_WEIGHTS, (1 << 40).to_bytes(8, "little") + b"{}"),
        "damaged",
    ),
    "whose weights have a header of garbage": (written(_WEIGHTS, b"\x09" + b"\0" * 7 + b"x" * 9), "damaged"),
    "with the tokenizer of another model": (_of_bundled(_TOKENIZER), "of another model"),
    "with a tokenizer of nothing": (written(_TOKENIZER, b"{}"), "damaged"),
    "with a tokenizer that is a list": (written(_TOKENIZER, b"[]"), "damaged"),
    "with a processor of nothing": (written(_PROCESSOR, b"7"), "damaged"),
}
for _name in (_WEIGHTS, _CONFIG, _TOKENIZER, _PROCESSOR):
    _BAD[f"without {_name}"] = removed(_name), ""
    _BAD[f"with a folder for {_name}"] = folder_instead(_name), ""
    _BAD[f"with an empty {_name}"] = written(_name, b""), ""
    _BAD[f"with a {_name} that is cut"] = cut(_name), ""
    _BAD[f"with a {_name} of zeros"] = written(_name, b"\0" * 999), ""
for _name, _fields in {
    "no longest side": {"size": {"shortest_edge": 96, "longest_edge": "x"}},
    "a height in words": {"size": {"height": "tall"}},
    "a size that is a list": {"size": [96, 144]},
    "images of no size": {"size": {"shortest_edge": 0}},
    "a mean of two channels": {"image_mean": [0.5, 0.5]},
    "a mean in words": {"image_mean": ["a", "b", "c"]},
    "a deviation of zero": {"image_std": [0, 1, 1]},
    "a multiple of -1": {"pad_to_multiple": -1},
}.items():
    _BAD[f"with a processor of {_name}"] = described(_PROCESSOR, image_processor=_fields), "damaged"
for _name, _fields in {
    "a text length in words": {"max_text_tokens": "many"},
    "a text length of zero": {"max_text_tokens": 0},
    "a threshold in words": {"default_threshold": "high"},
    "a threshold of NaN": {"default_threshold": NAN},
    "answers that are a number": {"answer_types": 7},
}.items():
    _BAD[f"with a processor of {_name}"] = described(_PROCESSOR, **_fields), "damaged"
CASES: list[Case] = []
for _loader, _load in _LOADERS.items():
    for _name, _change in _GOOD.items():
        CASES.append(Case(f"{_loader} a model {_name}", _changed(_change, _load), "MdetrForObjectDetection"))
    for _name, (_change, _words) in _BAD.items():
        CASES.append(Case(f"{_loader} a model {_name}", _changed(_change, _load), Refused(_words)))


# Exported models, of which damaged files are found before any graph runs
_INPUTS = {
    "image": ["pixel_values", "pixel_mask"],
    "text": ["input_ids", "attention_mask"],
    "fusion": ["image_features", "text_features"],
}


def _put_export(model: Path) -> None:
    """Make the folder that of an exported model, with graphs that do nothing."""
    from onnx import TensorProto, helper, save

    (model / _WEIGHTS).unlink()
    for name, inputs in _INPUTS.items():
        values = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["n"]) for each in inputs]
        output = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n"])
        node = helper.make_node("Identity", [inputs[0]], ["out"])
        graph = helper.make_graph([node], name, values, [output])
        opset = [helper.make_opsetid("", 17)]
        save(helper.make_model(graph, opset_imports=opset, ir_version=8), model / f"{name}.onnx")
    fields = {"format": "onnx", "precision": "fp32", "num_parameters": 7, "mdetr_version": "0.1.0"}
    (model / "export.json").write_text("{}")
    described("export.json", **fields)(model)


def _exported(change: Callable[[Path], object], load: Callable[[Path], object]) -> Callable[[Path], object]:
    return _changed(lambda model: (_put_export(model), change(model)), load)


def _swapped(model: Path) -> None:
    (model / "image.onnx").rename(model / "kept.onnx")
    (model / "text.onnx").rename(model / "image.onnx")
    (model / "kept.onnx").rename(model / "text.onnx")


_EXPORTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "whose description is empty": (written("export.json", b""), "damaged"),
    "whose description is a list": (written("export.json", b"[]"), "damaged"),
    "whose description is nested 200,000 deep": (written("export.json", b"[" * 200_000), "nested"),
    "whose description has no format": (written("export.json", b"{}"), "format"),
    "of an unknown format": (described("export.json", format="tflite"), "tflite"),
    "of a format that is a list": (described("export.json", format=[]), "damaged"),
    "of an unknown precision": (described("export.json", precision="fp4"), "fp4"),
    "of parameters in words": (described("export.json", num_parameters="many"), "damaged"),
    "in another format than it says": (described("export.json", format="openvino"), "There is no file"),
    "without an image graph": (removed("image.onnx"), "There is no file"),
    "without a text graph": (removed("text.onnx"), "There is no file"),
    "without a fusion graph": (removed("fusion.onnx"), "There is no file"),
    "with a folder for a graph": (folder_instead("text.onnx"), "There is no file"),
    "with an empty graph": (written("text.onnx", b""), "damaged"),
    "with a graph that is cut": (cut("fusion.onnx"), "damaged"),
    "with a graph of zeros": (written("fusion.onnx", b"\0" * 999), "damaged"),
    "with two graphs swapped": (_swapped, "other inputs"),
    "without configuration": (removed(_CONFIG), _CONFIG),
    "with a configuration that is cut": (cut(_CONFIG), "damaged"),
    "without tokenizer": (removed(_TOKENIZER), ""),
    "with a tokenizer that is cut": (cut(_TOKENIZER), "damaged"),
    "without processor": (removed(_PROCESSOR), ""),
    "with a processor of nothing": (written(_PROCESSOR, b"7"), "damaged"),
}
for _loader in ("from_pretrained of", "ground with"):
    for _name, (_change, _words) in _EXPORTED.items():
        act = _exported(_change, _LOADERS[_loader])
        CASES.append(Case(f"{_loader} an exported model {_name}", act, Refused(_words)))
CASES += [
    Case(
        "from_pretrained of an exported model as it should be",
        _exported(lambda _: None, _from_pretrained),
        "ExportedModel",
    ),
    Case("fine-tune an exported model", _exported(lambda _: None, _finetune), Refused("no weights to train")),
]


# Baselines
def _baseline(content: bytes) -> Callable[[Path], object]:
    return _changed(written("baseline.json", content), _evaluate)


for _name, _content in {
    "that is empty": b"",
    "that is a list": b"[]",
    "that is nested 200,000 deep": b"[" * 200_000,
    "of nothing": b"{}",
    "of an unknown kind": b'{"kind": "yolo", "classes": [], "config": {}}',
    "of classes that are numbers": b'{"kind": "detr", "classes": [7], "config": {}}',
    "with the weights of another model": b'{"kind": "detr", "classes": [], "config": {"num_queries": 5}}',
}.items():
    CASES.append(Case(f"evaluate a baseline {_name}", _baseline(_content), Refused("The baseline in")))


def _named(name: Any) -> Callable[[Path], object]:
    return lambda _: type(Mdetr.from_pretrained(name).model).__name__


CASES.append(Case("a model by its name", _named("clevr-tiny"), "MdetrForObjectDetection"))
for _name, _value in {
    "empty": "",
    "of white space": " ",
    "misspelled": "clevr-tinny",
    "of 5,000 letters": "x" * 5000,
    "of 5,000 letters in a folder": "a/" + "x" * 5000,
    "with a null character": "a\0b",
    "that is a web address": "https://example.com/model",
    "that is a file address": "file:///tmp/model",
    "that leads to a device": "/dev/null",
    "that leaves the folder": "../../../none",
    "that is null": None,
    "that is a number": 7,
}.items():
    CASES.append(Case(f"the name of a model {_name}", _named(_value), Refused("")))
