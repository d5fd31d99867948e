"""Rows gathered from all processes: every record once, the same on every process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import distributed, multiprocessing

from mdetr.data.record import Record
from mdetr.evaluation.distributed import GroupedRows, RecordRows, gather_names, gather_rows, record_key


def record(name: str) -> Record:
    return Record("made-up", "test", name, "none.png", "0", 10, 10, "text")


def rows_of(name: str) -> np.ndarray:
    """As many rows as the name has letters, each with the code and the index of the letter."""
    return np.array([[ord(letter), index] for index, letter in enumerate(name)], dtype=np.float32).reshape(
        -1, 2
    )


def test_a_record_that_is_scored_twice_counts_once():
    rows = RecordRows(columns=2)
    for name in ("ab", "c", "", "ab"):
        rows.add(record(name), rows_of(name))
    keys, merged = rows.merged()
    assert sorted(merged.tolist()) == [[97, 0], [98, 1], [99, 0]]
    assert len(set(keys.tolist())) == 2


def test_rows_of_many_records_keep_their_keys():
    rows = RecordRows(columns=1)
    for number in range(10_000):
        rows.add(record(str(number)), np.array([[number]]))
    keys, merged = rows.merged()
    assert sorted(merged[:, 0].tolist()) == list(range(10_000))
    expected = {record_key("made-up", "test", str(number)): number for number in range(10_000)}
    assert all(
        expected[key] == value for key, value in zip(keys.tolist(), merged[:, 0].tolist(), strict=True)
    )


def test_without_records_there_are_no_rows():
    keys, merged = RecordRows(columns=3).merged()
    assert keys.shape == (0,)
    assert merged.shape == (0, 3)


def test_two_processes_merge_to_the_rows_of_one(tmp_path):
    alone = RecordRows(columns=2)
    for name in ("ab", "cde", "f", "gh"):
        alone.add(record(name), rows_of(name))
    np.savez(tmp_path / "alone.npz", *alone.merged())
    # Forked, since starting afresh would import everything again; the work is too small for threads.
    multiprocessing.start_processes(_check_merge, (str(tmp_path),), nprocs=2, start_method="fork")


def _check_merge(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    rows = RecordRows(columns=2)
    for name in (("ab", "cde", "f"), ("gh", "ab"))[rank]:  # "ab" fills up the last batch
        rows.add(record(name), rows_of(name))
    expected = np.load(Path(folder) / "alone.npz")
    for ours, theirs in zip(rows.merged(), expected.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    only_one_has_some = gather_rows(np.full((3 * rank, 1), 7.0, dtype=np.float32))
    assert only_one_has_some.tolist() == [[7.0]] * 3
    distributed.destroy_process_group()


def test_groups_that_only_one_process_has_are_known_to_all(tmp_path):
    multiprocessing.start_processes(_check_groups, (str(tmp_path),), nprocs=2, start_method="fork")


def _check_groups(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    rows = GroupedRows(columns=1)
    rows.add("shared", record(f"{rank}"), np.array([[rank]]))
    if rank:
        rows.add("schön", record("x"), np.array([[7]]))
    merged = rows.merged()
    assert {name: sorted(values[:, 0].tolist()) for name, values in merged.items()} == {
        "schön": [7],
        "shared": [0, 1],
    }
    assert gather_names(["a"] if rank else []) == ["a"]
    distributed.destroy_process_group()
