"""Whether an image holds the channels that a model was trained with, in that order."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from nnunet_rs.core.dataset_json import read_channels
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import read_json
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.types import FloatArray, Volume
from nnunet_rs.core.workspace import DATASET_JSON
from nnunet_rs.plan.normalization import SCHEMES, window
from nnunet_rs.plan.schema import Plan


def require_channels(volume: Volume, plan: Plan) -> None:
    """Check that an image can be what the model was trained for.

    Raises
    ------
    DatasetError
        A wrong number of channels, zeros only, or a channel without any voxel in the window of the training's, where
        there is one: a CT that is of another modality, or not in Hounsfield units.
    """
    names = plan.channels
    found = volume.data.shape[0]
    if found != len(names):
        raise DatasetError(
            f"the image has {found} channel{'s' if found > 1 else ''}, the model takes {len(names)} "
            f"({', '.join(names)}); give the channels that it was trained with, in that order"
        )
    if not volume.data.any():
        raise DatasetError("the image is zero everywhere, so there is nothing to segment; see how it was exported")
    for index, (channel, rule) in enumerate(zip(volume.data, plan.normalization, strict=True)):
        seen = window(rule)
        if seen is not None and not _reaches(channel, seen):
            raise DatasetError(
                f"channel {index} ({names[index]}) has values {channel.min():g} to {channel.max():g}, none between "
                f"{seen[0]:g} and {seen[1]:g} as in training; give {SCHEMES[rule.scheme].window_unit}, and the "
                f"channels in the order {', '.join(names)}"
            )


def require_declared_order(folder: Path, plan: Plan, progress: Progress) -> None:
    """Check that the dataset.json beside a folder's images, if there is one, names the model's channels in its order.

    Other names than the model's are only told, for one modality has many.

    Raises
    ------
    DatasetError
        The same names in another order.
    """
    for file in (folder / DATASET_JSON, folder.parent / DATASET_JSON):
        declared = _declared(file)
        if declared is None or len(declared) != len(plan.channels):
            continue
        ours, theirs = ([name.casefold() for name in names] for names in (plan.channels, declared))
        if ours != theirs and sorted(ours) == sorted(theirs):
            raise DatasetError(
                f"{file}: the channels are {', '.join(declared)}, the model takes {', '.join(plan.channels)}; give "
                "the files numbers in the model's order (_0000, _0001, ...)"
            )
        if ours != theirs:
            progress.say(f"{file}: channels {', '.join(declared)}; the model was trained on {', '.join(plan.channels)}")
        return


def _declared(file: Path) -> tuple[str, ...] | None:
    """Channel names of a dataset.json; None where there is none, or none that can be read."""
    with suppress(DatasetError):
        content = read_json(file)
        return read_channels(file, content) if isinstance(content, dict) else None
    return None


def _reaches(channel: FloatArray, window: tuple[float, float]) -> bool:
    """Whether some voxel lies in the window; most often the first planes tell."""
    low, high = window
    return any(bool(((plane >= low) & (plane <= high)).any()) for plane in channel)
