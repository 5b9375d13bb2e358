"""Predict a folder of images: reading, predicting and writing overlap, and one bad case does not stop the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_rs.core.dataset import find_input_cases
from nnunet_rs.core.errors import DatasetError, NnunetError, named
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.types import Case
from nnunet_rs.plan.schema import Plan
from nnunet_rs.predict.channels import require_declared_order
from nnunet_rs.predict.ensemble import Pairs
from nnunet_rs.predict.inputs import one_case, result_place
from nnunet_rs.predict.pipeline import SIDE_BY_SIDE as SIDE_BY_SIDE
from nnunet_rs.predict.pipeline import CasePredictor as CasePredictor
from nnunet_rs.predict.pipeline import FolderOptions as FolderOptions
from nnunet_rs.predict.pipeline import Pipeline, open_results
from nnunet_rs.predict.pipeline import kept_labels as kept_labels
from nnunet_rs.predict.prediction_json import prediction_content
from nnunet_rs.predict.results import FolderResult, Results, report_left


def predict_folder(
    predictor: CasePredictor,
    input_dir: str | Path,
    output_dir: str | Path,
    options: FolderOptions | None = None,
    progress: Progress | None = None,
) -> FolderResult:
    """Predict every image of a folder.

    Parameters
    ----------
    predictor
        The loaded model.
    input_dir
        Images: `{case}_{CCCC}{ending}`, a file per channel, or one file a case.
    output_dir
        Gets `{case}{ending}` for every case, with the image's header, and `prediction.json`, which says what they were
        made with. A case is finished where its segmentation is newer than its images and was made by the same models
        and settings: a rerun goes on. What others made is made anew, unless it was edited since; such files, and all
        that this tool did not make, are refused before anything is predicted. Where prediction.json says the same
        models and settings they are left as they are.
    options
        None: segmentations, and nothing else.
    progress
        Told of every case.

    Raises
    ------
    DatasetError
        A folder that is missing or holds no image, a wrong number of channels, or an output that is an input.
    NnunetError
        Files that would be replaced and are not this tool's, or were edited (with `overwrite` they are kept in the
        folder `previous`). Cases that failed, each with its reason, after all others were written.
    """
    input_dir, output_dir, options = Path(input_dir), Path(output_dir), options or FolderOptions()
    cases, broken = cases_of_folder(input_dir, output_dir, predictor.plan, options, progress or Silent())
    return predict_cases(predictor, cases, output_dir, options, progress, broken=broken)


def cases_of_folder(
    input_dir: Path, output_dir: Path, plan: Plan, options: FolderOptions, progress: Progress
) -> tuple[Sequence[Case], dict[str, str]]:
    """List the cases of a folder, or of one part of it, and those that cannot be used, with the reason.

    Parameters and errors as `predict_folder`.
    """
    cases, issues = find_input_cases(input_dir, len(plan.channels))
    _require_another_folder(input_dir, output_dir)
    require_declared_order(input_dir, plan, progress)
    index, count = options.part
    if not 0 <= index < count:
        raise DatasetError(f"part {index} of {count}: the part must be 0 to {count - 1}")
    broken = {issue.case: str(issue) for issue in issues if issue.fatal} if index == 0 else {}
    for issue in issues if index == 0 else ():
        if not issue.fatal:
            progress.say(f"warning: {issue}")
    return cases[index::count], broken


def predict_files(
    predictor: CasePredictor,
    images: Sequence[Path],
    output: Path,
    options: FolderOptions | None = None,
    progress: Progress | None = None,
) -> FolderResult:
    """Predict one image, of one file or one a channel.

    Parameters
    ----------
    images
        As of `inputs.one_case`.
    output
        The segmentation, in any format that can hold it, as its ending says; or a folder, which gets what
        `predict_folder` writes. Beside a file that is named there is no `prediction.json`.
    predictor, options, progress
        As of `predict_folder`.

    Raises
    ------
    DatasetError
        As `inputs.one_case` and `inputs.result_place`.
    NnunetError
        As `predict_folder`.
    """
    options = options or FolderOptions()
    case, folder, options = case_of_files(images, output, predictor.plan, options, progress or Silent())
    return predict_cases(predictor, (case,), folder, options, progress)


def case_of_files(
    images: Sequence[Path], output: Path, plan: Plan, options: FolderOptions, progress: Progress
) -> tuple[Case, Path, FolderOptions]:
    """Return the case of one image, the folder of its result, and the options with the ending that was named.

    Parameters and errors as `predict_files`.
    """
    case, place = one_case(images, len(plan.channels)), result_place(output, images)
    if place.is_file:
        case, options = replace(case, name=place.name), replace(options, ending=place.ending)
    else:
        _require_another_folder(images[0].parent, output)
    require_declared_order(images[0].parent, plan, progress)
    return case, place.folder, options


def predict_cases(
    predictor: CasePredictor,
    cases: Sequence[Case],
    output_dir: Path,
    options: FolderOptions | None = None,
    progress: Progress | None = None,
    *,
    broken: Mapping[str, str] | None = None,
) -> FolderResult:
    """Predict cases whose files are known; parameters and errors as `predict_folder`.

    `broken` names cases that cannot be read, with the reason; they are told with those that fail.
    """
    options = options or FolderOptions()
    content = prediction_content(predictor.describe(), kept_labels(predictor.plan, options))
    return _run(predictor, cases, {output_dir: content}, options, progress, broken)


def predict_pairs(
    pairs: Pairs,
    cases: Sequence[Case],
    output_dirs: Sequence[Path],
    options: FolderOptions | None = None,
    progress: Progress | None = None,
) -> FolderResult:
    """Predict cases by every pair of configurations, each into its folder; otherwise as `predict_cases`."""
    contents = [prediction_content(ensemble.describe(), ensemble.plan.labels) for ensemble in pairs.ensembles]
    return _run(pairs, cases, dict(zip(output_dirs, contents, strict=True)), options or FolderOptions(), progress)


def _run(
    predictor: CasePredictor | Pairs,
    cases: Sequence[Case],
    contents: Mapping[Path, Mapping[str, Any]],
    options: FolderOptions,
    progress: Progress | None,
    broken: Mapping[str, str] | None = None,
) -> FolderResult:
    """Predict into folders, each with the content of its prediction.json; probabilities go into the first."""
    progress, broken, failed = progress or Silent(), broken or {}, dict[str, str]()

    def settled(case: Case, error: BaseException | None) -> None:
        if error is not None:
            failed[case.name] = named(error)

    with open_results(predictor.plan, contents, options, progress) as results:
        todo = begin_results(results, cases, options, progress)
        for name, reason in broken.items():
            failed[name] = reason
            progress.say(f"{name} failed: {reason}")
        with progress.task("predict", len(cases)) as task:
            task.advance(len(cases) - len(todo))
            Pipeline(predictor, results, progress, settled).all(todo, task)
    if failed:
        raise NnunetError(_failures(failed, len(todo) + len(broken), next(iter(contents))))
    return FolderResult.of(cases, todo)


def begin_results(
    results: Sequence[Results], cases: Sequence[Case], options: FolderOptions, progress: Progress
) -> list[Case]:
    """Tell which cases are to be predicted, and see that their files may be written; nothing is, until all may."""
    wanted, left = {case.name for case in cases}, set[Case]()
    if not options.overwrite:
        found = [each.unfinished(cases) for each in results]
        wanted = {case.name for todo, _ in found for case in todo}
        left = {case for _, some in found for case in some if case.name not in wanted}
    todo = [case for case in cases if case.name in wanted]
    for each in results:
        each.require(todo)
    for each in results:
        each.begin(cases, alone=options.part[1] == 1)
    report_left(left, progress)
    return todo


def _require_another_folder(input_dir: Path, output_dir: Path) -> None:
    if output_dir.is_dir() and output_dir.samefile(input_dir):
        raise DatasetError(
            f"{output_dir}: is the folder of the images, which segmentations would replace or be taken for; name "
            "another output folder (-o)"
        )


def _failures(failed: Mapping[str, str], count: int, output_dir: Path) -> str:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(failed.items()))
    good = count - len(failed)
    rest = f"the other {f'{good} are' if good > 1 else 'is'} written to {output_dir}" if good else "none is written"
    return f"{len(failed)} of {count} case{'s' if count > 1 else ''} failed, {rest}: {reasons}"
