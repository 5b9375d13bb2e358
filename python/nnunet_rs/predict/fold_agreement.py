"""How far the networks of several folds agree on a case: the Dice between their own labels, told while predicting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.kernels import logits_to_labels
from nnunet_rs.core.types import LabelSet, Shape3
from nnunet_rs.predict.window_grid import WindowGrid


class FoldCounts:
    """Voxels of the labels that each network of a configuration would give alone, and of every two of them together.

    A voxel counts once: in the window whose centre is nearest to it, as that is seen unmirrored. So nothing is computed
    again, and in memory are the labels of one batch of windows.

    Parameters
    ----------
    labels
        What the networks' outputs stand for.
    networks
        How many there are, at least two.
    grid
        The windows of the case.
    every
        Counted is one voxel in so many along each axis.
    """

    def __init__(self, labels: LabelSet, networks: int, grid: WindowGrid, every: int = 1) -> None:
        self._labels, self._networks, self._grid, self._every = labels, networks, grid, every
        self._owned = tuple(_owned(grid, axis) for axis in range(3))
        self._pending: dict[Shape3, dict[int, Any]] = {}  # labels by the start of the window, and network
        pairs = networks * (networks - 1) // 2
        self._sizes = np.zeros((networks, len(labels.score_names)), np.int64)
        self._both = np.zeros((pairs, len(labels.score_names)), np.int64)

    def begin(self, starts: Sequence[Shape3]) -> Callable[[int, Any, slice], None]:
        """Expect a batch of windows; there may be more scores than starts, and what a failed batch left is forgotten.

        Returned is what `Engine.scores` tells of each network.
        """
        self._pending.clear()

        def alone(network: int, scores: Any, windows: slice) -> None:
            places = starts[windows]
            self.add(network, scores[: len(places)], places)

        return alone

    def add(self, network: int, scores: Any, starts: Sequence[Shape3]) -> None:
        """Take one network's logits of windows, (b, classes, *tile) in working axes; memory of theirs is not kept."""
        for window, start in zip(scores, starts, strict=True):
            owned = [self._owned[self._grid.back[axis]][start[self._grid.back[axis]]] for axis in range(3)]
            cut = [slice(own.start, own.stop, self._every) for own in (owned[1:] if self._grid.flat else owned)]
            decided = _decided(window[(slice(None), *cut)], regions=bool(self._labels.regions))
            self._pending.setdefault(start, {})[network] = decided

    def settle(self) -> None:
        """Count the windows that every network has seen; a device is waited for here, once for all of them."""
        for found in self._pending.values():
            labels = [_on_host(found[network]) for network in range(self._networks)]
            for network, own in enumerate(labels):
                self._sizes[network] += self._voxels(own)
            for pair, (one, other) in enumerate(combinations(labels, 2)):
                self._both[pair] += self._voxels(one & other if self._labels.regions else one[one == other])
        self._pending.clear()

    def dice(self) -> dict[str, float]:
        """Return the mean over all pairs of networks, by structure; those that no network has found are left out."""
        together = np.array([one + other for one, other in combinations(self._sizes, 2)])
        known: NDArray[np.bool_] = together > 0
        ratios = np.divide(2.0 * self._both, together, out=np.zeros(together.shape), where=known)
        means = ratios.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        found = known.sum(axis=0)
        return {name: float(means[k]) for k, name in enumerate(self._labels.score_names) if found[k]}

    def _voxels(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Count the voxels of each structure: of masks (region, *size), or of class indices."""
        if self._labels.regions:
            counts: NDArray[np.int64] = labels.reshape(len(labels), -1).sum(axis=1, dtype=np.int64)
        else:
            counts = np.bincount(labels.reshape(-1), minlength=self._labels.count)[1:]
        return counts


class FoldAgreement:
    """What is learnt of one case: the counts of every configuration of which several networks are averaged."""

    def __init__(self) -> None:
        self._counts: list[FoldCounts] = []

    def counts(self, labels: LabelSet, networks: int, grid: WindowGrid, every: int = 1) -> FoldCounts | None:
        """Begin with a configuration; None: a single network agrees with itself."""
        if networks < 2:
            return None
        self._counts.append(FoldCounts(labels, networks, grid, every))
        return self._counts[-1]

    def dice(self) -> dict[str, float]:
        """Return the mean Dice between two folds by structure, 0 to 1; empty: there were no two of a configuration."""
        found: dict[str, list[float]] = {}
        for counts in self._counts:
            for name, value in counts.dice().items():
                found.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in found.items()}


def _owned(grid: WindowGrid, axis: int) -> dict[int, slice]:
    """Cut a grid axis between the centres of its windows: of each start, which voxels of the tile are its own."""
    starts, tile = sorted({start[axis] for start in grid.starts}), grid.tile[axis]
    between = [(one + other + tile) // 2 for one, other in pairwise(starts)]
    first, end = grid.before[axis], grid.before[axis] + grid.size[axis]  # padding belongs to nobody
    edges = [first, *(min(max(edge, first), end) for edge in between), end]
    return {start: slice(edges[i] - start, edges[i + 1] - start) for i, start in enumerate(starts)}


def _decided(scores: Any, *, regions: bool) -> Any:
    """Return masks (region, *size), or class indices (*size), in an array of the engine's own kind."""
    if regions:
        return scores >= 0
    if not isinstance(scores, np.ndarray):
        return scores.argmax(0)  # a tensor, which stays on its device
    volume = np.ascontiguousarray(scores if scores.ndim == 4 else scores[:, None])
    return logits_to_labels(volume, volume.shape[1:])


def _on_host(labels: Any) -> NDArray[Any]:
    array: NDArray[Any] = labels if isinstance(labels, np.ndarray) else labels.cpu().numpy()
    return array
