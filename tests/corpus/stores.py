"""Damaged and odd stores, given to every command that reads one."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from mdetr.data.record import SCHEMA, Record
from mdetr.data.sources.clevr import read_clevr
from mdetr.data.store import Store, write_store
from tests.corpus.cases import OUTPUT, Case, Refused, command, run_command
from tests.small_training import SCENES, small_recipe

ROWS = 20  # the first of the scenes in tests/fixtures/shapes
COMBINED = 14  # captions of them
ROWS_PER_SHARD = 8
SHARD, LATER_SHARD = "data-00000.parquet", "data-00002.parquet"


@cache
def _template() -> tempfile.TemporaryDirectory[str]:
    """A folder with images and their store of three files, which all cases copy; removed with the process."""
    folder = tempfile.TemporaryDirectory()
    shutil.copytree(SCENES / "images", Path(folder.name) / "images")
    write_store(
        Path(folder.name) / "store",
        _records(),
        Path(folder.name),
        rows_per_group=4,
        rows_per_shard=ROWS_PER_SHARD,
    )
    return folder


def _records() -> Iterator[Record]:
    return islice(read_clevr(SCENES, "train"), ROWS)


def put_store(folder: Path) -> Path:
    """Copy the store and its images to a folder, and return the store's path."""
    shutil.copytree(_template().name, folder, dirs_exist_ok=True)
    return folder / "store"


def put_recipe(folder: Path, **run: Any) -> Path:
    """Write a recipe that trains a small model on the store, and evaluates it on it."""
    recipe = small_recipe(folder / "store", **run)
    recipe["data"]["validation"]["shapes"]["max_images"] = 2
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    return file


# Readers of a store
def _rows(folder: Path) -> int:
    return len(list(Store.open(folder / "store")))


def _stats(folder: Path) -> int:
    command("data", "stats", folder / "store", "--json", folder / f"{OUTPUT}.json")
    rows: int = json.loads((folder / f"{OUTPUT}.json").read_text())["rows"]
    return rows


def _check(folder: Path) -> int:
    check = ("data", "check", folder / "store", "--json", folder / f"{OUTPUT}.json")
    code, printed, _ = run_command(*check)
    if "cannot be used" not in printed:
        command(*check)
    else:
        assert code == 1
    rows: int = json.loads((folder / f"{OUTPUT}.json").read_text())["records"]
    return rows


def _view(folder: Path) -> int:
    view = ("data", "view", folder / "store", "--count", 99, "--output", folder / f"{OUTPUT}.png")
    code, printed, complaint = run_command(*view)
    if "could not be drawn:" not in complaint:
        printed = command(*view)
    else:
        assert code == 1
    return int(printed.split()[0])


def _combine(folder: Path) -> int:
    printed = command("data", "combine", folder / "store", "--output", folder / OUTPUT, "--processes", 1)
    return int(printed.split()[1])


def _evaluate(folder: Path, output: str = OUTPUT) -> int:
    recipe = put_recipe(folder)
    command("evaluate", recipe, "--model", "clevr-tiny", "--output", folder / output, "--worst", 0)
    return ROWS if (folder / output / "shapes.parquet").is_file() else 0


def _train(folder: Path, output: str = OUTPUT) -> int:
    recipe = put_recipe(folder)
    short = ("--set", "optimizer.steps=1", "--set", "data.validation={}")
    command("train", recipe, "--output", folder / output, *short)
    return ROWS if (folder / output / "model" / "model.safetensors").is_file() else 0


READERS: dict[str, Callable[[Path], int]] = {
    "read": _rows,
    "stats": _stats,
    "check": _check,
    "view": _view,
    "combine": _combine,
    "evaluate": _evaluate,
    "train": _train,
}


# What happens to a store
def _description(**fields: Any) -> Callable[[Path], object]:
    def change(store: Path) -> None:
        file = store / "store.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return change


def _described(content: bytes) -> Callable[[Path], object]:
    return lambda store: (store / "store.json").write_bytes(content)


def _shard(change: Callable[[bytes], bytes], shard: str = SHARD) -> Callable[[Path], object]:
    return lambda store: (store / shard).write_bytes(change((store / shard).read_bytes()))


def _column(name: str, column: Callable[[pa.ChunkedArray], Any]) -> Callable[[Path], object]:
    """Replace a column of one file."""

    def change(store: Path) -> None:
        table = pq.read_table(store / SHARD)
        changed = column(table[name])
        field = pa.field(name, changed.type)
        pq.write_table(table.set_column(SCHEMA.get_field_index(name), field, changed), store / SHARD)

    return change


def _changed(change: Callable[[Path], object], read: Callable[[Path], int]) -> Callable[[Path], object]:
    """Change a copy of the store, and read it."""

    def act(folder: Path) -> object:
        change(put_store(folder))
        return read(folder)

    return act


def _values(*values: Any) -> Callable[[pa.ChunkedArray], Any]:
    """Values of a column of the same type, of which some may be null."""
    return lambda column: pa.array([*values, *column.to_pylist()[len(values) :]], column.type)


def _folder_in_place(store: Path) -> None:
    (store / SHARD).unlink()
    (store / SHARD).mkdir()


def _middle(content: bytes) -> bytes:
    """Overwrite a third of the pages of a file, and keep its footer."""
    return content[:100] + b"\xff" * (len(content) // 3) + content[100 + len(content) // 3 :]


_DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "that is missing": (shutil.rmtree, ""),
    "without description": (lambda store: (store / "store.json").unlink(), "is not a store"),
    "whose description is empty": (_described(b""), "damaged"),
    "whose description is cut": (_described(b'{"schema_version": 1, "image_root"'), "damaged"),
    "whose description is in UTF-16": (_described('{"schema_version": 1}'.encode("utf-16")), "damaged"),
    "whose description is of zeros": (_described(b"\0" * 99), "damaged"),
    "whose description is a list": (_described(b"[1]"), "damaged"),
    "whose description is null": (_described(b"null"), "damaged"),
    "whose description is nested 200,000 deep": (_described(b"[" * 200_000), "damaged"),
    "whose description has one field": (_described(b'{"schema_version": 1}'), "damaged"),
    "of version 2": (_description(schema_version=2), "schema version 2"),
    "of version null": (_description(schema_version=None), "schema version"),
    "of version list": (_description(schema_version=[1]), "schema version"),
    "whose files are a number": (_description(shards=7), "damaged"),
    "whose files are null": (_description(shards=None), "damaged"),
    "whose files are numbers": (_description(shards=[7]), "damaged"),
    "whose file is named with a null character": (_description(shards=["a\0b"]), "damaged"),
    "whose file has a name of 5,000 letters": (_description(shards=["x" * 5000]), ""),
    "whose file lies elsewhere": (_description(shards=["../../../secret.parquet"]), "damaged"),
    "whose number of rows is a word": (_description(rows="many"), "damaged"),
    "whose number of rows is null": (_description(rows=None), "damaged"),
    "whose number of rows is another": (_description(rows=57), "should have 57 rows but its files hold 20"),
    "whose image folder is a number": (_description(image_root=7), "damaged"),
    "whose image folder is a list": (_description(image_root=["images"]), "damaged"),
    "whose image folder has a null character": (_description(image_root="a\0b"), "damaged"),
    "with a file less": (lambda store: (store / SHARD).unlink(), "is missing"),
    "with a folder for a file": (_folder_in_place, "is missing"),
    "with a link to itself for a file": (
        lambda store: ((store / SHARD).unlink(), (store / SHARD).symlink_to(store / SHARD)),
        "is missing",
    ),
    "with an empty file": (_shard(lambda _: b""), "Parquet"),
    "with a file that is cut": (_shard(lambda content: content[: len(content) // 2]), "Parquet"),
    "with a file of zeros": (_shard(lambda content: b"\0" * len(content)), "Parquet"),
    "with a file of text": (_shard(lambda _: b"text" * 100), "Parquet"),
    "with a file of other columns": (
        lambda store: pq.write_table(pa.table({"a": [1]}), store / SHARD),
        "lacks the columns",
    ),
    "with boxes of text": (_column("boxes", lambda c: pa.array(["1 2 3 4"] * len(c))), "boxes"),
    "with boxes of one list": (_column("boxes", lambda c: pa.array([[1.0, 2.0]] * len(c))), "boxes"),
    "with widths of text": (_column("width", lambda c: c.cast(pa.string())), "width"),
    "with texts of numbers": (_column("text", lambda c: pa.array(range(len(c)))), "text"),
    "with spans of halves": (
        _column("spans", lambda c: pa.array([[[[0.5, 1.5]]]] * len(c))),
        "spans",
    ),
    "with masks of text": (_column("masks", lambda c: pa.array(["rle"] * len(c))), "masks"),
    "with images of numbers": (_column("image", lambda c: pa.array(range(len(c)))), "image"),
}
CASES: list[Case] = []
for name, (change, words) in _DAMAGED.items():
    for reader, read in READERS.items():
        CASES.append(Case(f"{reader} a store {name}", _changed(change, read), Refused(words)))

# Damage that only reading finds, when a run has begun its folder
_BEGUN: dict[str, Callable[[Path], int]] = READERS | {
    "evaluate": lambda folder: _evaluate(folder, "run"),
    "train": lambda folder: _train(folder, "run"),
}
_LEFT_OUT: dict[str, object] = {"check": ROWS - 1, "view": ROWS - 1}
_SCORED = _LEFT_OUT | {"evaluate": ROWS}
_TRAINED = _SCORED | {"stats": Refused("gaps"), "train": ROWS}
_COUNTED = _TRAINED | {"stats": ROWS}
_WITHIN: dict[str, tuple[Callable[[Path], object], str, dict[str, object]]] = {
    "with a file without beginning": (
        _shard(lambda content: content[500:]),
        "is damaged",
        {"view": ROWS - ROWS_PER_SHARD},
    ),
    "with a file whose pages are overwritten": (
        _shard(_middle),
        "is damaged",
        {"view": ROWS - ROWS_PER_SHARD},
    ),
    "with a text that is null": (_column("text", _values(None)), "text", _LEFT_OUT),
    "with boxes that are null": (_column("boxes", _values(None)), "boxes", _SCORED),
    "with a box that is null": (_column("boxes", _values([None])), "boxes", _SCORED),
    "with a number that is null": (_column("boxes", _values([[1, 2, None, 4]])), "box", _SCORED),
    "with spans that are null": (_column("spans", _values(None)), "spans", _TRAINED),
    "with a span that is null": (_column("spans", _values([[None]])), "spans", _TRAINED),
    "with an image that is null": (_column("image", _values(None)), "image", _COUNTED),
    "with a width that is null": (_column("width", _values(None)), "width", _SCORED | {"stats": ROWS}),
    "with spans of fewer boxes": (_column("spans", _values([[[0, 9]]])), "one entry per box", _COUNTED),
    "with an empty text": (_column("text", _values(" ")), "its text is empty", _COUNTED),
    "with a box outside its image": (
        _column("boxes", _values([[1, 2, 9999, 4]])),
        "leaves the image",
        _COUNTED,
    ),
}
for name, (change, words, values) in _WITHIN.items():
    for reader, read in _BEGUN.items():
        CASES.append(
            Case(f"{reader} a store {name}", _changed(change, read), values.get(reader, Refused(words)))
        )


def _listed(folder: Path) -> int:
    (folder / "run").mkdir()
    (folder / "run" / "broken_examples.jsonl").write_text('{"data": 7}\n[}')
    return _evaluate(folder, "run")


CASES.append(
    Case(
        "evaluate a store with an empty text, beside a garbled list of broken examples",
        _changed(_column("text", _values(" ")), _listed),
        Refused("remove it"),
    )
)


# Odd stores that are as good as any
def _typed(**types: pa.DataType) -> Callable[[Path], object]:
    """Give columns of all files other types."""

    def change(store: Path) -> None:
        for file in store.glob("*.parquet"):
            table = pq.read_table(file)
            for name, data_type in types.items():
                index = SCHEMA.get_field_index(name)
                table = table.set_column(index, pa.field(name, data_type), table[name].cast(data_type))
            pq.write_table(table, file)

    return change


def _moved(name: str) -> Callable[[Path], object]:
    """Move the store and its images to another folder, and leave a link."""

    def change(store: Path) -> None:
        folder = store.parent / name
        folder.mkdir()
        for part in ("images", "store"):
            (store.parent / part).rename(folder / part)
        store.symlink_to(folder / "store")

    return change


def _reordered(store: Path) -> None:
    table = pq.read_table(store / SHARD)
    pq.write_table(table.select(sorted(table.column_names)), store / SHARD)


def _more_columns(store: Path) -> None:
    table = pq.read_table(store / SHARD)
    pq.write_table(table.append_column("more", pa.array([{"a": 1}] * len(table))), store / SHARD)


_RIGHT: dict[str, Callable[[Path], object]] = {
    "as it should be": lambda _: None,
    "of large strings and 64 bits": _typed(
        text=pa.large_string(), width=pa.int64(), boxes=pa.list_(pa.list_(pa.float64()))
    ),
    "with the columns in another order": _reordered,
    "with one column more": _more_columns,
    "with one field more": _description(made_by="hand"),
    "with a file beside the others": lambda store: (store / "notes.txt").write_text("mine"),
    "with a Parquet file beside the others": lambda store: (store / "data-9.parquet").write_bytes(b""),
    "behind a link, in a folder with spaces and unicode": _moved("my données 文件"),
    "behind a link, in a folder with brackets": _moved("[a] {b} %20 #c ?d &e"),
}
for name, change in _RIGHT.items():
    for reader, read in READERS.items():
        rows = COMBINED if reader == "combine" else ROWS
        CASES.append(Case(f"{reader} a store {name}", _changed(change, read), rows))


def _emptied(store: Path) -> None:
    shutil.rmtree(store)
    write_store(store, [], store.parent)


_EMPTY: dict[str, object] = {
    "read": 0,
    "stats": 0,
    "check": Refused("holds no records"),
    "view": Refused("is empty"),
    "combine": 0,
    "evaluate": Refused("no record"),
    "train": Refused("no records to train on"),
}
for reader, read in _BEGUN.items():
    CASES.append(Case(f"{reader} a store without rows", _changed(_emptied, read), _EMPTY[reader]))


# What happens to a store while it is read
def _while_read(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """Read the first row, change the store, and read the others."""

    def act(folder: Path) -> object:
        store = Store.open(put_store(folder))
        first = store[0].id
        change(store.path)
        ids = [store[row].id for row in range(len(store))]
        return len(ids) if ids[0] == first else "another first row"

    return act


def _written_again(store: Path, **options: Any) -> None:
    write_store(store, _records(), store.parent, overwrite=True, **options)


for name, change, words in (
    ("removed", shutil.rmtree, "was removed"),
    ("moved", lambda store: store.rename(store.with_name("other")), "was removed"),
    ("missing a file", lambda store: (store / LATER_SHARD).unlink(), "was removed"),
    ("cut", _shard(lambda content: content[:-100], LATER_SHARD), "changed"),
    ("overwritten with garbage", _shard(lambda content: b"\0" * len(content), LATER_SHARD), "changed"),
    ("written again in other files", lambda store: _written_again(store, rows_per_shard=16), "changed"),
    ("written again in one file", _written_again, "changed"),
):
    CASES.append(Case(f"a store that is {name} while it is read", _while_read(change), Refused(words)))
CASES.append(
    Case(
        "a store whose description is removed while it is read",
        _while_read(lambda store: (store / "store.json").unlink()),
        ROWS,
    )
)
