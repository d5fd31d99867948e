"""Odd annotation files of every source, given to `mdetr data import`."""

from __future__ import annotations

import gzip
import pickle
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from mdetr.data.store import Store
from mdetr.processing.rle import decode_masks
from tests.corpus.cases import OUTPUT, Case, Refused, command
from tests.data.sources.samples import SAMPLES, TEXT_SAMPLES, H, W, write_sample

_FLICKR30K = Path(__file__).parents[1] / "fixtures" / "sources" / "flickr30k"
_SOURCE_OF = {"visual-genome by name": "visual-genome", "synthesized": "clevr"}
_NESTED = b"[" * 200_000


def _images(folder: Path) -> None:
    for name in ("a.png", "images/val/a.png", "images/n1.jpg", "images/03.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (W, H)).save(folder / name)


def _written_sample(folder: Path, name: str) -> list[Path]:
    """Write the files of a source's sample, and return them."""
    _images(folder)
    files = SAMPLES[name].files if name in SAMPLES else TEXT_SAMPLES[name][0]
    for file, content in files.items():
        if name in SAMPLES:
            write_sample(folder / file, content)
        else:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(content.replace("|", ""))
    return [folder / file for file in files]


def _import(folder: Path, name: str, *options: str) -> str:
    """Import the sample of a source, and return how many records there are."""
    root, split = TEXT_SAMPLES[name][2] if name in TEXT_SAMPLES else SAMPLES[name].root, "val"
    if name in SAMPLES:
        split = SAMPLES[name].split
    source = _SOURCE_OF.get(name, name.split()[0])
    command("data", "import", source, folder / root, folder / OUTPUT, "--split", split, *options)
    store = Store.open(folder / OUTPUT)
    for record in store:  # the store can be used
        decode_masks(record.masks or (), record.height, record.width)
    return f"{len(store)} records"


def _changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], str]:
    """Change the bytes of all files of a sample, and import it."""

    def act(folder: Path) -> str:
        for file in _written_sample(folder, name):
            file.write_bytes(change(file.read_bytes()))
        return _import(folder, name)

    return act


def _same(content: bytes) -> bytes:
    return content


def _crlf(content: bytes) -> bytes:
    return re.sub(rb'(?<=[,{}\]])(?=["{\[ ])', b"\r\n", content) if content[:1] in b"[{" else content


def _utf16(content: bytes) -> bytes:
    return content.decode().encode("utf-16")


def _latin1(content: bytes) -> bytes:
    return content[:-3] + b"\xe9\xff" + content[-3:]


_WAYS: dict[str, tuple[Callable[[bytes], bytes], bool]] = {
    "as it should be": (_same, True),
    "with a byte order mark": (lambda content: b"\xef\xbb\xbf" + content, True),
    "compressed with gzip": (gzip.compress, True),
    "with CRLF": (_crlf, True),
    "in UTF-16": (_utf16, False),
    "with bytes that are no UTF-8": (_latin1, False),
    "cut off": (lambda content: content[: len(content) * 2 // 3], False),
    "compressed and cut off": (lambda content: gzip.compress(content)[:-12], False),
    "empty": (lambda _: b"", False),
    "of zeros": (lambda content: b"\0" * len(content), False),
    "nested 200,000 deep": (lambda _: _NESTED, False),
    "of a number": (lambda _: b"7", False),
    "of null": (lambda _: b"null", False),
}
_RECORDS = {"lvis": 2, "synthesized": 2, "photos": 2, "photos-composed": 4}
_LINES = ("jsonl", "photos", "photos-composed")
CASES: list[Case] = []
for name in SAMPLES:
    for way, (change, is_right) in _WAYS.items():
        if (name == "refcoco") or (name in _LINES and way == "with CRLF"):
            continue
        expected = f"{_RECORDS.get(name, 1)} records" if is_right else Refused("")
        CASES.append(Case(f"{name} {way}", _changed(name, change), expected))


# Files of text: CSV, XML and YAML
def _with_end(end: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content + end


def _replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old, new)


_BOM = _WAYS["with a byte order mark"][0]
_CHANGES: dict[str, list[tuple[str, Callable[[bytes], bytes], object]]] = {
    "csv": [
        ("as it should be", _same, "1 records"),
        ("with a byte order mark", _BOM, "1 records"),
        ("compressed with gzip", gzip.compress, "1 records"),
        ("with CRLF", _replaced(b"\n", b"\r\n"), "1 records"),
        ("with semicolons", _replaced(b",", b";"), "1 records"),
        ("in UTF-16", _utf16, Refused("UTF-16")),
        ("in Latin-1", _replaced(b"red", b"r\xe9d"), Refused("UTF-8")),
        ("of a header only", lambda content: content.partition(b"\n")[0], Refused("No usable record")),
        ("without a column", _replaced(b"x0", b"x9"), Refused("column")),
        ("with an open quote", _with_end(b'\n"a.png'), Refused("")),
        ("with short lines", _with_end(b"\na.png" * 3), Refused("line 3")),
        ("with a cell of 200,000 letters", _with_end(b"," + b"x" * 200_000), Refused("")),
    ],
    "voc": [
        ("as it should be", _same, "1 records"),
        ("with a byte order mark", _BOM, "1 records"),
        ("with CRLF", _replaced(b"\n", b"\r\n"), "1 records"),
        ("cut off", lambda content: content[:100], Refused("")),
        ("empty", lambda _: b"", Refused("")),
        (
            "with entities that multiply",
            lambda content: _entities() + content.replace(b"red", b"&e9;"),
            Refused(""),
        ),
        ("nested 100,000 deep", lambda _: b"<a>" * 100_000, Refused("")),
    ],
    "yolo labels": [
        ("as they should be", _same, "1 records"),
        ("with CRLF", _replaced(b"\n", b"\r\n"), "1 records"),
        ("with NaN", _replaced(b"0.2", b"nan"), Refused("finite")),
        ("of an unknown class", _replaced(b"0 0.5", b"9 0.5"), Refused("")),
        ("of two numbers", _replaced(b" 0.2 0.4", b""), Refused("")),
    ],
    "yolo settings": [
        ("that contain themselves", _replaced(b"names", b"a: &a [*a]\nnames"), Refused("not YAML")),
        ("with an object of Python", _replaced(b"path: .", b"path: !!python/object:os.x {}"), "1 records"),
        ("with a date that does not exist", _replaced(b"path: .", b"path: 2020-99-99"), "1 records"),
        ("with a list as key", _replaced(b"path: .", b"? [a, b]\n: 7"), Refused("not YAML")),
        ("in no encoding", _replaced(b"path: .", b"\xff\xfe"), Refused("")),
        ("nested 100,000 deep", _replaced(b"path: .", b"path: " + _NESTED), Refused("")),
    ],
}


def _entities() -> bytes:
    """Entities of XML that multiply ("billion laughs")."""
    entities = [b'<!ENTITY e0 "ha">']
    for number in range(1, 10):
        entities.append(b'<!ENTITY e%d "%s">' % (number, b"&e%d;" % (number - 1) * 10))
    return b"<!DOCTYPE x [" + b"".join(entities) + b"]>"


for name, changes in _CHANGES.items():
    for way, change, expected in changes:
        CASES.append(Case(f"{name} {way}", _changed(name, change), expected))


# Flickr30k Entities: a folder of XML and of text
def _flickr30k(file: str, change: Callable[[bytes], bytes]) -> Callable[[Path], str]:
    def act(folder: Path) -> str:
        root = shutil.copytree(_FLICKR30K, folder / "flickr30k")
        (root / file).write_bytes(change((root / file).read_bytes()))
        command("data", "import", "flickr30k", root, folder / OUTPUT, "--split", "test")
        return f"{len(Store.open(folder / OUTPUT))} records"

    return act


# Nobody can see that lines are missing
_UNSEEN = {("test.txt", "cut off"), ("Sentences/1000.txt", "cut off")}
for file in ("Annotations/1000.xml", "Sentences/1000.txt", "test.txt"):
    for way in (
        "as it should be",
        "with a byte order mark",
        "in UTF-16",
        "with bytes that are no UTF-8",
        "cut off",
    ):
        change, is_right = _WAYS[way]
        if (file, way) not in _UNSEEN:
            is_right = is_right or (file, way) == ("Annotations/1000.xml", "in UTF-16")
            expected = "24 records" if is_right else Refused("")
            CASES.append(Case(f"flickr30k {file} {way}", _flickr30k(file, change), expected))
for name, file, old, new in (
    ("a box of letters", "Annotations/1000.xml", b"<xmin>", b"<xmin>x"),
    ("a phrase that is never closed", "Sentences/1000.txt", b"]", b""),
    ("a phrase without id", "Sentences/1000.txt", b"/EN#", b"/EN#/"),
    ("an image in no file", "test.txt", b"1001", b"9999"),
    ("an id that leaves the folder", "test.txt", b"1001", b"../../1001"),
):
    act = _flickr30k(file, lambda content, old=old, new=new: content.replace(old, new))
    CASES.append(Case(f"flickr30k with {name}", act, Refused("")))


# The pickled references of RefCOCO
def _refs(content: Callable[[bytes], bytes]) -> Callable[[Path], str]:
    def act(folder: Path) -> str:
        file = next(file for file in _written_sample(folder, "refcoco") if file.suffix == ".p")
        file.write_bytes(content(file.read_bytes()))
        return _import(folder, "refcoco")

    return act


class _Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({OUTPUT!r}, 'w')",)


for name, change, words in (
    ("that runs a program", lambda _: pickle.dumps([_Attack()]), "holds only texts and numbers"),
    ("of another object", lambda _: pickle.dumps([Path("a")]), "holds only texts and numbers"),
    ("cut off", lambda content: content[:-40], "holds only texts and numbers"),
    ("empty", lambda _: b"", "holds only texts and numbers"),
    ("that is JSON", lambda _: b"[]", "holds only texts and numbers"),
    ("of a number", lambda _: pickle.dumps(7), "no list of references"),
    ("of numbers", lambda _: pickle.dumps([7]), "no list of references"),
    ("that names a place far away", lambda _: b"\x80\2Nr\xff\xff\xff\x1f.", ""),
    ("that announces 4 GB", lambda _: b"\x80\4\x8e" + struct.pack("<Q", 1 << 32) + b"x", ""),
    ("that announces an array of 1 TB", lambda _: b"\x80\5\x96" + struct.pack("<Q", 1 << 40) + b".", ""),
    ("that refers to nothing", lambda _: b"\x80\2h\7.", "holds only texts and numbers"),
    ("of nested lists", lambda _: b"\x80\2" + b"]" * 100_000 + b"a" * 99_999 + b".", ""),
    ("that contains itself", lambda _: b"\x80\2]q\0h\0a.", "no list of references"),
):
    CASES.append(Case(f"refcoco references {name}", _refs(change), Refused(words)))
CASES.append(Case("refcoco as it should be", _refs(_same), "1 records"))
CASES.append(Case("refcoco references with CRLF", _refs(lambda content: content + b"\r\n"), "1 records"))


def _command(*arguments: str) -> Callable[[Path], object]:
    return lambda folder: command("data", "import", *(argument.format(folder) for argument in arguments))


_OUT = "{}/" + OUTPUT
CASES += [
    Case("unknown data set", _command("imagenet", "{}", _OUT), Refused("Unknown data set")),
    Case("no such folder", _command("coco", "{}/x", _OUT), Refused("no file or folder")),
    Case("an empty folder", _command("coco", "{}", _OUT), Refused("There is no file")),
]
for name in SAMPLES:
    sample = SAMPLES[name]
    if sample.root == ".":
        source = _SOURCE_OF.get(name, name)
        CASES.append(Case(f"{name}: an empty folder", _command(source, "{}", _OUT), Refused("")))
