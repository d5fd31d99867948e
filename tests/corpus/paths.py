"""Odd paths and addresses, given to commands as inputs and as outputs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mdetr.data.store import Store
from tests.corpus.cases import OUTPUT, Case, Refused, command
from tests.corpus.images import quarters
from tests.corpus.recipes import as_nobody
from tests.corpus.stores import put_recipe, put_store

_LONG = "x" * 5000
_ODD_NAMES = {
    "with spaces": "my  image.png",
    "in unicode": "données 文件 🐈.png",
    "in decomposed unicode": "cafe\u0301.png",
    "that begins with a hyphen": "-image.png",
    "with quotes": 'it\'s "mine".png',
    "with brackets": "[red]{b}(c).png",
    "with percent signs": "a%20b%.png",
    "with a hash and a question mark": "a#b?c.png",
    "with a backslash": "a\\b.png",
    "with a new line": "a\nb.png",
    "with an escape": "a\x1b[31mb.png",
    "with markup": "[bold]a.png",
    "of bytes that are no UTF-8": os.fsdecode(b"a\xff.png"),
    "of 255 letters": "x" * 251 + ".png",
    "without suffix": "image",
    "with a suffix in capitals": "image.PNG",
    "with dots": "a..b...png",
    "that is hidden": ".image.png",
}


def _ground(image: object, *options: object) -> str:
    return command("ground", image, "a red cube", "--model", "clevr-tiny", *options)


def _image(folder: Path, name: str = "a.png") -> Path:
    quarters().save(folder / name, "PNG")
    return folder / name


# Inputs
def _named(folder: Path, name: str) -> object:
    """Find something in an image of an odd name, and write a picture and JSON of odd names."""
    _image(folder, name)
    result, picture = folder / f"{OUTPUT}-{name}"[:250], folder / f"{OUTPUT}-{name}"[:240]
    result, picture = result.with_suffix(".json"), picture.with_suffix(".png")
    _ground(folder / name, "--json", result, "--output", picture)
    return result.stat().st_size > 0 and picture.stat().st_size > 0


def _data(folder: Path, name: str) -> object:
    """Import a file of an odd name whose image has one too, and count the records of the store."""
    _image(folder, name)
    lines = folder / f"{name[:240]}.jsonl"
    lines.write_text(json.dumps({"image": name, "text": "a cube"}))
    command("data", "import", "jsonl", lines, folder / f"{OUTPUT}{name[:200]}")
    return len(Store.open(folder / f"{OUTPUT}{name[:200]}"))


CASES: list[Case] = []
for _name, _file in _ODD_NAMES.items():
    CASES.append(Case(f"ground an image {_name}", partial(_named, name=_file), True))
    if "UTF-8" not in _name:
        CASES.append(Case(f"import an image {_name}", partial(_data, name=_file), 1))


def _linked(folder: Path) -> Path:
    _image(folder, "real.png")
    (folder / "a.png").symlink_to("real.png")
    return folder / "a.png"


def _loop(folder: Path) -> Path:
    (folder / "loop.png").symlink_to(folder / "other.png")
    (folder / "other.png").symlink_to(folder / "loop.png")
    return folder / "loop.png"


def _dangling(folder: Path) -> Path:
    (folder / "a.png").symlink_to(folder / "none.png")
    return folder / "a.png"


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "a.png")
    return folder / "a.png"


def _dotted(folder: Path) -> Path:
    (folder / "sub").mkdir()
    return folder / "sub" / ".." / _image(folder).name


def _address(folder: Path) -> str:
    return f"file://{_image(folder)}"


_INPUTS: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "behind a link": (_linked, None),
    "behind dots": (_dotted, None),
    "with a slash too many": (lambda folder: f"{_image(folder).parent}//a.png", None),
    "by a file address": (_address, None),
    "in a link to itself": (_loop, ""),
    "behind a link to nothing": (_dangling, ""),
    "that is missing": (lambda folder: folder / "none.png", "no image"),
    "that is an empty folder": (lambda folder: folder, "no image"),
    "that is a FIFO": (_fifo, ""),
    "that is /dev/null": (lambda _: "/dev/null", ""),
    "that is /dev/zero": (lambda _: "/dev/zero", ""),
    "with a file for its folder": (lambda folder: _image(folder) / "a.png", ""),
    "with a name of 5,000 letters": (lambda folder: folder / _LONG, ""),
    "with a path of 5,000 letters": (lambda folder: f"{folder}/{'a/' * 2500}a.png", ""),
    "with a null character": (lambda folder: f"{folder}/a\0.png", ""),
    "with an empty name": (lambda _: "", ""),
    "at a file address of nothing": (lambda folder: f"file://{folder}/none.png", ""),
    "at a file address of another machine": (lambda _: "file://elsewhere/a.png", ""),
    "at an unknown scheme": (lambda _: "gopher://example.com/a.png", ""),
    "at an address without host": (lambda _: "http://", ""),
    "at an address with a port in words": (lambda _: "http://localhost:port/a.png", ""),
    "at an address with a port of 99999": (lambda _: "http://127.0.0.1:99999/a.png", ""),
    "at an address where nobody listens": (lambda _: "http://127.0.0.1:9/a.png", ""),
    "at an address of IPv6 that is cut": (lambda _: "http://[::1/a.png", ""),
}


def _found(folder: Path, make: Callable[[Path], object]) -> object:
    _ground(make(folder), "--json", folder / "found.json")
    return (folder / "found.json").stat().st_size > 0


for _name, (_make, _words) in _INPUTS.items():
    _expected = True if _words is None else Refused(_words)
    CASES.append(Case(f"an image {_name}", partial(_found, make=_make), _expected))


# Outputs: the picture and the JSON of ground, the stores of data, the folder of a run
def _in_file(folder: Path) -> Path:
    (folder / "file").write_text("mine")
    return folder / "file" / OUTPUT


def _read_only(folder: Path) -> Path:
    folder.chmod(0o755)
    (folder / "kept").mkdir(mode=0o555)
    return folder / "kept" / OUTPUT


def _existing(folder: Path) -> Path:
    (folder / "kept").mkdir()
    (folder / "kept" / "mine.txt").write_text("mine")
    return folder / "kept"


def _file(folder: Path) -> Path:
    (folder / "kept").write_text("mine")
    return folder / "kept"


_OUTPUTS: dict[str, Callable[[Path], object]] = {
    "in a file": _in_file,
    "with a name of 5,000 letters": lambda folder: folder / _LONG,
    "in a link to itself": lambda folder: _loop(folder) / OUTPUT,
    "in /dev/null": lambda _: f"/dev/null/{OUTPUT}",
}


def _put_store(folder: Path) -> None:
    if not (folder / "store").exists():
        put_store(folder)


def _picture(folder: Path, output: object) -> str:
    return _ground(_image(folder), "--output", f"{output}.png")


def _json(folder: Path, output: object) -> str:
    return _ground(_image(folder), "--json", f"{output}.json")


def _combine(folder: Path, output: object) -> str:
    _put_store(folder)
    return command("data", "combine", folder / "store", "--output", output, "--processes", 1)


def _import(folder: Path, output: object) -> str:
    _image(folder)
    (folder / "a.jsonl").write_text('{"image": "a.png", "text": "a cube"}')
    return command("data", "import", "jsonl", folder / "a.jsonl", output)


def _view(folder: Path, output: object) -> str:
    _put_store(folder)
    return command("data", "view", folder / "store", "--output", f"{output}.png")


def _stats(folder: Path, output: object) -> str:
    _put_store(folder)
    return command("data", "stats", folder / "store", "--json", f"{output}.json")


def _train(folder: Path, output: object) -> str:
    put_store(folder)
    return command("train", put_recipe(folder), "--output", output, "--set", "optimizer.steps=1")


def _evaluate(folder: Path, output: object) -> str:
    put_store(folder)
    return command("evaluate", put_recipe(folder), "--model", "clevr-tiny", "--output", output)


def _labeled(folder: Path, output: object) -> str:
    (folder / "images").mkdir()
    _image(folder / "images")
    return command("label", folder / "images", output, "--classes", "red cube", "--model", "clevr-tiny")


def _export(_: Path, output: object) -> str:
    return command("export", "clevr-tiny", output, "--format", "onnx")


_WRITERS: dict[str, Callable[[Path, object], str]] = {
    "ground a picture": _picture,
    "ground to JSON": _json,
    "combine": _combine,
    "import": _import,
    "view": _view,
    "stats": _stats,
    "train": _train,
    "evaluate": _evaluate,
    "label": _labeled,
    "export": _export,
}


def _written(folder: Path, write: Any, make: Callable[[Path], object]) -> object:
    write(folder, make(folder))
    return "written"


def _without_rights(folder: Path, write: Any) -> object:
    """Write into a folder without permission; root is given up for it, whom permissions do not bind."""
    _put_store(folder)
    output = _read_only(folder)
    return as_nobody(lambda: write(folder, output))


for _writer, _write in _WRITERS.items():
    for _name, _make in _OUTPUTS.items():
        CASES.append(
            Case(f"{_writer} to a path {_name}", partial(_written, write=_write, make=_make), Refused(""))
        )
for _writer in ("combine", "import", "train", "label", "export", "evaluate"):
    CASES.append(
        Case(
            f"{_writer} to a path that is a file",
            partial(_written, write=_WRITERS[_writer], make=_file),
            Refused(""),
        )
    )
for _writer in ("stats", "view"):
    CASES.append(
        Case(
            f"{_writer} to a folder that is read-only",
            partial(_without_rights, write=_WRITERS[_writer]),
            Refused("ermission"),
        )
    )
for _writer in ("combine", "import", "export"):
    CASES.append(
        Case(
            f"{_writer} to a folder with other files",
            partial(_written, write=_WRITERS[_writer], make=_existing),
            Refused(""),
        )
    )


# Stores, recipes and models at odd paths
_READERS: dict[str, Callable[[object], str]] = {
    "stats of": lambda path: command("data", "stats", path),
    "check": lambda path: command("data", "check", path),
    "view": lambda path: command("data", "view", path, "--output", "/dev/null/x.png"),
    "combine": lambda path: command("data", "combine", path, "--output", "/dev/null/x.png"),
    "evaluate by": lambda path: command("evaluate", path, "--model", "clevr-tiny"),
    "train by": lambda path: command("train", path),
    "ground with": lambda path: command("ground", "a.png", "a cube", "--model", path),
    "export": lambda path: command("export", path, "/dev/null/x.png"),
    "import": lambda path: command("data", "import", "coco", path, "/dev/null/x.png"),
    "label": lambda path: command("label", path, "/dev/null/x.png", "--classes", "cube"),
}
_PLACES: dict[str, Callable[[Path], object]] = {
    "that is missing": lambda folder: folder / "none",
    "that is an empty folder": lambda folder: folder,
    "that is /dev/null": lambda _: "/dev/null",
    "that is /dev/zero": lambda _: "/dev/zero",
    "that is a FIFO": _fifo,
    "that is a link to itself": _loop,
    "that is a link to nothing": _dangling,
    "in a file": _in_file,
    "with a name of 5,000 letters": lambda folder: folder / _LONG,
    "that is empty": lambda _: "",
    "at a web address": lambda _: "http://127.0.0.1:9/store",
    "at an unknown scheme": lambda _: "gopher://x/y",
}
for _reader, _read in _READERS.items():
    for _name, _make in _PLACES.items():
        CASES.append(
            Case(
                f"{_reader} a path {_name}",
                lambda folder, read=_read, make=_make: read(make(folder)),
                Refused(""),
            )
        )
