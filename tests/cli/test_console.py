import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.cli.console import Console, Display, Outcome, plain
from nnunet_rs.cli.progress import rate
from nnunet_rs.core.text import clock
from nnunet_rs.evaluate.summary import TABLE_HEAD
from nnunet_rs.report.tables import Table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def console(display: Display = Display(), *, terminal: bool = False) -> tuple[Console, io.StringIO, io.StringIO]:  # noqa: B008
    out, err = (Terminal(), Terminal()) if terminal else (io.StringIO(), io.StringIO())
    return Console(display, out, err), out, err


def test_progress_away_from_a_terminal_is_plain_lines_on_standard_error() -> None:
    shown, out, err = console()
    with shown.task("read", 3) as task:
        for name in "abc":
            task.advance(note=name)
    shown.say("a remark")
    assert out.getvalue() == ""
    first, second = err.getvalue().splitlines()
    assert first.startswith("read: 3 in ")
    assert second == "a remark"


def test_lines_tell_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.0, 20.0, 20.0, 40.0, 40.0, 41.0])
    monkeypatch.setattr("nnunet_rs.cli.progress.time.monotonic", lambda: next(now))
    shown, _, err = console()
    with shown.task("read", 4) as task:
        task.advance()
    assert err.getvalue().splitlines()[0] == "read: 1 of 4, 20.0 s each, 1:00 left"


def test_seconds_are_shown_as_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.0, 20.0, 20.0, 75.0])
    monkeypatch.setattr("nnunet_rs.cli.progress.time.monotonic", lambda: next(now))
    shown, _, err = console()
    with shown.task("2d, fold 0", 90.0, timed=True) as task:
        task.advance(20.0, "epoch 1")
    assert err.getvalue().splitlines() == ["2d, fold 0: 20 s of 1:30; epoch 1", "2d, fold 0: 1:15"]


def test_a_bar_of_seconds_shows_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    shown, _, err = console(terminal=True)
    with shown.task("2d, fold 0", 90.0, timed=True) as task:
        task.advance(20.0)
    assert " s of 1:30" in err.getvalue()
    assert "/s" not in err.getvalue()


def test_a_terminal_gets_a_bar_that_becomes_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    shown, _, err = console(terminal=True)
    with shown.task("read", 2) as task, shown.task("inner", 1) as inner:
        task.advance(note="one")
        inner.advance()
        task.advance()
    assert "✓" in err.getvalue()
    assert "read: 2 in" in err.getvalue()
    assert "inner: 1 in" not in err.getvalue()


def test_a_bar_shows_names_as_they_are_and_no_time_that_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    shown, _, err = console(terminal=True)
    with shown.task("read [/]", 2) as task:
        task.advance(note="case[/b]")
        assert shown._bars is not None
        shown._bars.refresh()
    assert "case[/b]" in err.getvalue()
    assert "read [/]" in err.getvalue()
    assert "-:--" not in err.getvalue()


def test_a_bar_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    shown, _, err = console(terminal=True)
    with shown.task("3d_cascade_fullres, fold 1 (batches)", 250) as task:
        task.advance(note="epoch 3, loss 1.037, Dice 0.153")
        assert shown._bars is not None
        shown._bars.refresh()
    assert err.getvalue().count("\n") == 1  # the line at the end


def test_a_table_of_scores_fits_into_a_hundred_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shown, out, _ = console(terminal=True)
    row = (
        "kidneys",
        "0.9489",
        "0.937 to 0.967",
        "0.9441",
        "0.874",
        "0.914",
        "0.981",
        "134.01",
        "149.17",
        "0.924",
        "104",
    )
    shown.finish("evaluate", Outcome({}, (Table("scores", TABLE_HEAD, (row,)),)), 1.0)
    lines = out.getvalue().splitlines()
    assert len(lines) == 5  # an empty one, title, head, rule, row
    assert "0.937 to 0.967" in lines[-1]


def test_long_lines_are_broken_between_words_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    line = "  because /a/path/that/is/longer/than/the/line is long"
    for terminal in (True, False):
        shown, out, err = console(terminal=terminal)
        shown.say(line)
        shown.finish("plan", Outcome({}, (line, "as it is:\n" + 40 * "x ")), 1.0)
        broken = ["  because", "    /a/path/that/is/longer/than/the/line", "    is long"] if terminal else [line]
        assert err.getvalue().splitlines() == broken
        assert out.getvalue().splitlines() == [*broken, "as it is:", 40 * "x "]


def test_a_table_without_headings_has_no_line_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table("", ("", ""), (("disk", "fast"), ("memory", "much")), words=True)
    for terminal in (True, False):
        shown, out, _ = console(terminal=terminal)
        shown.finish("doctor", Outcome({}, (table,)), 1.0)
        assert out.getvalue().split() == ["disk", "fast", "memory", "much"]


def test_a_failed_task_leaves_no_line_that_says_it_is_done() -> None:
    shown, _, err = console()
    with pytest.raises(ValueError, match="no"), shown.task("read", 2):
        raise ValueError("no")
    assert err.getvalue() == ""


def test_quiet_shows_the_result_and_nothing_else() -> None:
    shown, out, err = console(Display(quiet=True))
    with shown.task("read", 1) as task:
        task.advance()
    shown.say("a remark")
    shown.finish("check", Outcome({}, ("result",)), 1.0)
    assert err.getvalue() == ""
    assert out.getvalue() == "result\n"


def test_json_is_one_object_with_numbers_that_json_knows() -> None:
    shown, out, _ = console(Display(json=True))
    outcome = Outcome({"file": Path("a/b"), "dice": math.nan, "size": np.int64(3)}, ("text",), 1)
    code = shown.finish("check", outcome, 0.5)
    assert code == 1
    expected = {"command": "check", "ok": False, "seconds": 0.5, "file": str(Path("a/b")), "dice": None, "size": 3}
    assert json.loads(out.getvalue()) == expected


def test_an_error_is_one_line_and_in_json_an_object_too() -> None:
    shown, out, err = console(Display(json=True))
    shown.fail("check", "first\nsecond", "do this")
    assert err.getvalue() == "error: first second; do this\n"
    assert json.loads(out.getvalue()) == {"command": "check", "ok": False, "error": "first\nsecond"}


def test_tables_are_aligned_away_from_a_terminal_and_drawn_on_one() -> None:
    table = Table("Dice", ("class", "mean"), (("liver", "0.9"), ("mean", "0.9")), "a note", summary=True)
    shown, out, _ = console()
    shown.finish("evaluate", Outcome({}, (table,)), 0.0)
    assert out.getvalue().splitlines() == ["Dice", "class  mean", "liver   0.9", "mean    0.9", "a note"]
    shown, out, _ = console(terminal=True)
    shown.finish("evaluate", Outcome({}, (table,)), 0.0)
    assert "liver" in out.getvalue()
    assert "─" in out.getvalue()


def test_clock_and_rate() -> None:
    assert [clock(t) for t in (0.41, 12.3, 59.99, 185, 3723)] == ["0.4 s", "12 s", "1:00", "3:05", "1:02:03"]
    assert [rate(10, 2), rate(2, 7), rate(0, 1)] == ["5/s", "3.5 s each", "-"]


def test_plain_reduces_arrays_sets_and_infinities() -> None:
    assert plain({1: (np.arange(2), {3}), "b": math.inf}) == {"1": [[0, 1], [3]], "b": None}
