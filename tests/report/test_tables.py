import math
from pathlib import Path

from nnunet_rs.core.issues import Issue
from nnunet_rs.core.types import LabelSet
from nnunet_rs.evaluate.comparison import Comparison
from nnunet_rs.evaluate.scores import score_case, scored_targets
from nnunet_rs.evaluate.summary import CaseScores, Summary
from nnunet_rs.report.tables import Table, choice_table, comparison_table, issues_table, number, scores_table
from nnunet_rs.select.choice import Candidate, Choice
from nnunet_rs.select.postprocessing import PostProcessing

LABELS = LabelSet(names=("background", "liver", "spleen"), values=(0, 1, 2))


def summary() -> Summary:
    import numpy as np

    reference = np.zeros((1, 4, 4), np.uint8)
    reference[0, :2] = 1  # eight voxels of liver, no spleen
    prediction = reference.copy()
    prediction[0, 1] = 0  # half of them found: Dice 2·4 / (4 + 8)
    scores = score_case(prediction, reference, LABELS, (1.0, 1.0, 1.0), None)
    return Summary(scored_targets(LABELS), (CaseScores("a", "p", "r", scores),), None)


def test_a_table_of_scores_leaves_out_what_was_not_measured() -> None:
    table = scores_table("Dice", summary())
    assert "HD95 mm" not in table.columns
    column = table.columns.index("Dice")
    assert [row[0] for row in table.rows] == ["liver", "spleen", "mean"]
    assert [row[column] for row in table.rows] == ["0.6667", "-", "0.6667"]
    assert table.summary


def test_lines_align_the_first_column_left_and_the_others_right() -> None:
    table = Table("", ("a", "long"), (("x", "1"), ("yy", "22222")))
    assert table.lines() == ["a    long", "x       1", "yy  22222"]


def test_faults_are_words_aligned_left_with_files_by_their_place_in_the_dataset() -> None:
    root = Path("data")
    issues = (
        Issue(root / "labelsTr" / "a.nii.gz", "no-foreground", "background only", "see", "a", fatal=False),
        Issue(Path("elsewhere.nii"), "missing", "no such file", "restore it", "b"),
    )
    assert issues_table(root, issues).lines() == [
        "data:",
        "         file               rule           found            what to do",
        "warning  labelsTr/a.nii.gz  no-foreground  background only  see",
        "error    elsewhere.nii      missing        no such file     restore it",
    ]


def test_an_undefined_number_is_a_dash() -> None:
    assert [number(math.nan), number(None), number(0.12345)] == ["-", "-", "0.123"]


def test_a_comparison_names_both_and_dashes_what_is_undefined() -> None:
    rows = (Comparison("liver", 3, 0.9, 0.85, 0.05, 0.25), Comparison("spleen", 0, *[math.nan] * 4))
    table = comparison_table(("mine", "theirs"), "dice", rows)
    assert table.columns == ("class", "cases", "mine", "theirs", "difference", "p")
    assert table.rows == (
        ("liver", "3", "0.9000", "0.8500", "+0.0500", "0.25"),
        ("spleen", "0", "-", "-", "-", "-"),
    )


def test_a_choice_shows_on_how_many_cases_a_mean_rests() -> None:
    found = Candidate(
        ("2d",), 0.7, {"liver": 0.8, "spleen": 0.6, "lost": None}, 5, {"liver": 5, "spleen": 2, "lost": 0}
    )
    table = choice_table(Choice(("2d",), PostProcessing(), (0, 1), (found,)))
    assert table.rows == (("2d", "0.700", "0.800", "0.600 (2/5)", "-"),)
    assert table.note == "(2/5): a mean over 2 of 5 cases; the others have no such class"
    before = Candidate(("2d",), 0.7, {"liver": 0.8})  # as earlier versions wrote it
    assert choice_table(Choice(("2d",), PostProcessing(), (0,), (before,))).rows == (("2d", "0.700", "0.800"),)
