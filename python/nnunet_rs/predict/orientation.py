"""In which orientation networks see an image: as its file stores it, or turned to what they were trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nnunet_rs.core.issues import Issue
from nnunet_rs.core.orientation import by_frequency, lies_in, stored_orientation
from nnunet_rs.core.types import Case, Volume
from nnunet_rs.model.metadata import ModelMetadata


def seen_orientation(volume: Volume, all_metadata: Sequence[ModelMetadata]) -> str | None:
    """Return the orientation that an image is turned to before networks see it.

    Parameters
    ----------
    volume
        The image.
    all_metadata
        Of the networks that are averaged. Those of which it is not known which orientations they have seen say nothing.

    Returns
    -------
    str or None
        The most frequent one that all networks have seen, or where they share none, that any has. The image's own where
        that is one of these, where the image is stored in one of these but for a rotation (`lies_in`), and of a single
        slice: there its plane counts, not where it lies. None where it is not known of the image, or of no network:
        the image is taken as it is stored. So it is with plans that reorient, which turn every image by themselves.
    """
    stored = stored_orientation(volume.header)
    known = [metadata.orientations for metadata in all_metadata if metadata.orientations]
    if stored is None or not known or all_metadata[0].plan.reorient:
        return None
    counts = by_frequency(sum(map(Counter, known), Counter()))
    seen = [codes for codes in counts if all(codes in each for each in known)] or list(counts)
    if 1 in volume.data.shape[1:] or stored in seen or any(lies_in(volume.header, codes) for codes in seen):
        return stored
    return seen[0]


def turned_issue(case: Case, volume: Volume, orientation: str | None) -> Issue | None:
    """Return a warning that an image is turned before it is predicted; None where it is not."""
    stored = stored_orientation(volume.header)
    if orientation is None or stored in (None, orientation):
        return None
    value = f"is stored {stored}, other than training images ({orientation}): the network sees it turned"
    advice = "the result is on the image's own grid; see that the header is right"
    return Issue(case.images[0], "orientation", value, advice, case.name, fatal=False)
