"""How many slices of a case a page shows, and how large: as much as its share of the page's bytes holds."""

from __future__ import annotations

from nnunet_rs.report.slices import Detail, Drawing, Slices

PAGE = 15_000_000  # bytes of a page at most
TEXT = 0.1  # of a page: all that is no picture
_QUALITY = 70
# From the most to the least: slices across the scanned axis, across each of the others, pixels of the longer side.
_LEVELS = tuple(
    Detail(slices, others, longest, _QUALITY)
    for slices, others, longest in (
        (40, 24, 512), (40, 24, 448), (32, 20, 400), (28, 16, 384), (24, 14, 352), (20, 12, 320), (16, 10, 320),
        (14, 8, 288), (12, 6, 256), (10, 5, 256), (8, 4, 224), (6, 3, 192), (4, 2, 160), (2, 1, 128), (1, 0, 96),
    )
)  # fmt: skip
_SAMPLE = Detail(1, 1, 256, _QUALITY)
_GROWTH = 1.6  # power of a picture's side that its bytes grow with; what is drawn is counted in the end


def share(cases: int) -> int:
    """Return the bytes of pictures that each of so many cases may take of a page."""
    return int(PAGE * (1 - TEXT)) // max(cases, 1)


def draw_within(drawing: Drawing, most: int, slices: int | None = None) -> tuple[Slices, ...]:
    """Draw a case in the most detail whose pictures take `most` bytes at most; the least detail, if none does.

    `slices` is how many there are across the scanned axis at most, where the user says so.
    """
    sample = drawing.slices(_SAMPLE)
    for detail in _LEVELS:
        wanted = Detail(min(detail.slices, slices or detail.slices), detail.others, detail.longest, detail.quality)
        counts = (wanted.slices, *(wanted.others for _ in sample[1:]))
        guess = sum(count * plane.bytes for count, plane in zip(counts, sample, strict=True))
        if guess * (detail.longest / _SAMPLE.longest) ** _GROWTH > most and detail is not _LEVELS[-1]:
            continue
        drawn = drawing.slices(wanted)
        if sum(plane.bytes for plane in drawn) <= most:
            break
    return drawn
