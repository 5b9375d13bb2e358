from contextlib import ExitStack

import pytest
from nnunet_rs.core.restored import Restored


def test_blocks_that_overlap_leave_what_was_before_the_first() -> None:
    """A begins, B begins, A ends, B ends: as two threads do."""
    setting = [8]

    def write(value: int) -> None:
        setting[0] = value

    restored = Restored(lambda: setting[0], write)
    first, second = ExitStack(), ExitStack()
    first.enter_context(restored())
    setting[0] = 2
    second.enter_context(restored())
    setting[0] = 4
    first.close()
    assert setting == [4]  # the second one still runs
    second.close()
    assert setting == [8]


def test_it_is_put_back_after_an_error_and_read_anew() -> None:
    setting = [1]
    restored = Restored(lambda: setting[0], lambda value: setting.__setitem__(0, value))
    with pytest.raises(ZeroDivisionError), restored():
        setting[0] = 1 // 0
    setting[0] = 5
    with restored():
        setting[0] = 7
    assert setting == [5]
