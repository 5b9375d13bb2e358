"""Pictures of scored cases: one by name, or the best, the median and the worst."""

from __future__ import annotations

from pathlib import Path

from nnunet_rs.core.image_file import Grid
from nnunet_rs.core.io import read_label_scan, read_volume
from nnunet_rs.core.labels import encode_labels
from nnunet_rs.core.types import Case, LabelSet
from nnunet_rs.evaluate.summary import Summary
from nnunet_rs.report.figures import CasePicture, overlay_picture
from nnunet_rs.report.ranking import ranked


def picture_ranked(folder: Path, cases: tuple[Case, ...], labels: LabelSet, summary: Summary) -> tuple[Path, ...]:
    """Write FOLDER/best.png, median.png and worst.png: image, reference, prediction.

    Parameters
    ----------
    folder
        Made if it is not there.
    cases
        Among them those that were scored, with their images.
    labels
        What label files hold.
    summary
        The scores, with the files that were compared.

    Raises
    ------
    DatasetError
        A file cannot be read any more.
    """
    known = {case.name: case for case in cases}
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for case in ranked(summary.case_means()):
        paths.append(folder / f"{case.rank}.png")
        title = f"{case.name}: the {case.rank} of {case.count}"
        picture_case(paths[-1], title, known[case.name], labels, summary)
    return tuple(paths)


def picture_case(path: Path, title: str, case: Case, labels: LabelSet, summary: Summary) -> None:
    """Write a PNG of a scored case's first channel, its reference and its prediction; errors as `picture_ranked`."""
    scored = next(scored for scored in summary.cases if scored.name == case.name)
    volume = read_volume(case.images)
    grid = Grid(case.images[0], volume.data.shape[1:], volume.spacing, volume.header.affine)  # SEG files have their own
    prediction, reference = (
        encode_labels(read_label_scan(Path(file), grid, labels).labels(), labels)
        for file in (scored.prediction, scored.reference)
    )
    dice = {target.name: score.dice for target, score in zip(summary.targets, scored.scores, strict=True)}
    comparison = CasePicture(
        title=title,
        image=volume.data[0],
        prediction=prediction,
        reference=reference,
        spacing=volume.spacing,
        header=volume.header,
        names=labels.names,
        dice=dice,
    )
    overlay_picture(path, comparison)
