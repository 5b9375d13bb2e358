"""The colours of classes, and the marks that tell classes apart where colours do not.

Colours are Okabe and Ito's (2008), which readers with any common colour vision tell apart; further classes repeat them
lighter. A reader who sees no colour at all has dashes, markers and hatchings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PALETTE = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ((), (5, 1.6), (1.4, 1.4), (7, 1.5, 1.4, 1.5), (3, 1), (9, 2.5), (5, 1.2, 1.2, 1.2, 1.2, 1.2))
PERIOD = 8  # pixels of a hatching


def class_colour(index: int) -> tuple[float, float, float]:
    """Give the colour of class `index` (1 is the first in front of the background), red, green, blue in 0 … 1."""
    from matplotlib.colors import to_rgb

    turn, place = divmod(index - 1, len(PALETTE))
    whiten = 0.45 * min(turn, 2) / 2
    red, green, blue = (part + (1 - part) * whiten for part in to_rgb(PALETTE[place]))
    return red, green, blue


def hue(index: int) -> int:
    """Return which colour of the palette class `index` has; style.css has it for a light and for a dark page."""
    return (index - 1) % len(PALETTE)


def dashes(index: int) -> tuple[float, ...]:
    """Give the dashes and gaps, in line widths, of the `index`-th line (from 1); none for a solid one."""
    return _DASHES[(index - 1 + (index - 1) // len(PALETTE)) % len(_DASHES)]


def hatching(index: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return of each pixel of a picture whether the hatching of class `index` has a line there.

    Parameters
    ----------
    index
        The class, from 1. Seven hatchings, one a colour; classes of the same colour have different ones.
    shape
        Rows and columns of the picture.
    """
    kind = (index - 1 + (index - 1) // len(PALETTE)) % len(PALETTE)
    y, x = (np.arange(size) % PERIOD for size in shape)
    y = y[:, None]
    strokes: NDArray[np.bool_] = (
        (x + y) % PERIOD < 2,
        (x - y) % PERIOD < 2,
        (y < 2) & (x >= 0),
        (x < 2) & (y >= 0),
        ((x + y) % PERIOD < 1) | ((x - y) % PERIOD < 1),
        (x % 4 < 2) & (y % 4 < 2),
        (x < 1) | (y < 1),
    )[kind]
    return strokes
