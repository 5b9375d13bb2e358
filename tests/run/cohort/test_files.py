"""The folder of a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.progress import Silent
from nnunet_rs.run.cohort.claims import Claims
from nnunet_rs.run.cohort.files import (
    BLOCKS,
    LARGEST,
    Cohort,
    as_options,
    begin,
    block_sizes,
    cohorts_of,
    create,
    newest,
    this_process,
)

COHORT = Cohort("predict", "out", "key", (), (), "", as_options(step=0.5, folder=Path("a")))


@given(st.integers(1, 5000), st.integers(1, 50))
def test_blocks_hold_every_case_and_get_smaller(count: int, workers: int) -> None:
    sizes = block_sizes(count, workers)
    assert sum(sizes) == count
    assert max(sizes) <= LARGEST
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1 or sizes[-1] <= count // (4 * workers)


def settle(folder: Any, cohort: Cohort, count: int) -> None:
    claims = Claims(folder.path, cohort.sizes, cohort.groups, this_process("a"))
    while claims.take():
        pass
    for case in range(count):
        claims.done(case)
    claims.close()


def test_cases_are_read_block_by_block(tmp_path: Path) -> None:
    groups = {"a": [[f"é{number}", number] for number in range(70)], "b": [["z", None]]}
    folder, cohort = create(tmp_path, COHORT, groups, 1)
    assert cohort.count == 71
    assert (cohort.option("step"), cohort.option("folder")) == (0.5, "a")
    assert cohort.groups[-1] == "b"
    assert folder.read() == cohort
    blocks = folder.blocks(cohort)
    items = [item for block in range(len(cohort.sizes)) for item in blocks[block]]
    assert [item.index for item in items] == list(range(71))
    assert [item.name for item in items] == folder.names()
    assert items[3].body == (3,)
    assert items[70].body == (None,)


def test_one_that_is_not_finished_is_joined_by_the_same_work_alone(tmp_path: Path) -> None:
    groups = {"": [["a"], ["b"]]}
    first, cohort = begin(tmp_path, COHORT, groups, 1, Silent())
    assert begin(tmp_path, COHORT, groups, 1, Silent())[0] == first
    other, _ = begin(tmp_path, COHORT, {"": [["a"]]}, 1, Silent())
    assert other != first
    settle(first, cohort, 2)
    again, _ = begin(tmp_path, COHORT, groups, 1, Silent())
    assert again not in (first, other)
    assert not first.path.exists()  # it was finished
    assert other.path.exists()


def test_of_a_kind_the_newest_counts(tmp_path: Path) -> None:
    home = tmp_path / "jobs"
    create(home, COHORT, {"": [["a"]]}, 1)
    last, _ = create(home, COHORT, {"": [["b"]]}, 1)
    (home / "cohort_9").mkdir()  # damaged
    found = newest(home, "predict")
    assert found is not None
    assert found[0] == last
    assert newest(home, "best") is None
    assert len(list(cohorts_of(tmp_path))) == 3


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NnunetError, match="cannot be written"):
        create(tmp_path / "file", COHORT, {"": [["a"]]}, 1)


def test_a_damaged_cohort_is_told(tmp_path: Path) -> None:
    folder, _ = create(tmp_path, COHORT, {"": [["a"]]}, 1)
    (folder.path / "cohort.json").write_text("{}")
    with pytest.raises(NnunetError, match=r"cohort\.json: is no cohort of nnunet_rs"):
        folder.read()
    assert (folder.path / BLOCKS).is_file()
