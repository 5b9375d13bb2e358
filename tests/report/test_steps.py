import shlex

from nnunet_rs.cli.parser import build_parser
from nnunet_rs.report.steps import command, missing_steps, steps_of
from nnunet_rs.report.workfolder import read_work_folder


def steps(made) -> list[tuple[str, str]]:
    return [(step.stage, step.what) for step in missing_steps(read_work_folder(made.work))]


def test_stage_by_stage_less_is_missing(maker) -> None:
    made = maker()
    made.planned()
    assert steps(made) == [
        ("preprocess", "no case is prepared"),
        ("train", "2d is not trained"),
        ("train", "3d_fullres is not trained"),
        ("best", "configuration and post-processing are not chosen"),
    ]
    made.prepared()
    made.training("2d", 0, finished=False, epochs=3)
    made.training("3d_fullres", 1)
    assert steps(made)[:4] == [
        ("train", "the training of 2d, fold 0 is not finished (3 epochs so far)"),
        ("validate", "the validation cases of 3d_fullres, fold 1 are not predicted"),
        ("train", "folds 1, 2, 3, 4 are not trained in 2d"),
        ("train", "folds 0, 2, 3, 4 are not trained in 3d_fullres"),
    ]


def test_commands_are_understood_by_the_command_line(maker) -> None:
    made = maker()
    made.planned()
    made.training("2d", 0, finished=False)
    found = missing_steps(read_work_folder(made.work))
    for step in found:
        words = shlex.split(step.command)
        assert words[0] == "nnunet-rs"
        assert build_parser().parse_args(words[1:]).command == words[1]
    (prepare,) = steps_of(found, "preprocess")
    assert shlex.split(prepare.command)[2] == str(made.dataset.root)


def test_paths_with_spaces_are_quoted() -> None:
    assert command("report", "my work") == "nnunet-rs report 'my work'"
