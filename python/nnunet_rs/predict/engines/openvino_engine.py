"""Scores of windows by OpenVINO, on processors; needs no torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunet_rs.core.choices import Precision
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.forked import Unforked
from nnunet_rs.core.resources import processor, processors
from nnunet_rs.core.types import FloatArray, Shape
from nnunet_rs.predict.blend import OutputActivation
from nnunet_rs.predict.engines.engine import Alone, HostEngine, Scored, mirror_images

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, InferRequest, Model

OLDEST = (2025, 1)  # the first release with `CompiledModel.release_memory`
CACHE_BYTES = 2 << 30
MOST_CHANNELS = 16  # of an output: `build_graph`
SMALL = 1 << 17  # voxels of a window: of larger ones the feature maps exist once, and all threads work on one window
LARGE = 256 << 20  # bytes of one window's scores: beyond, one window is computed at a time
_UNFORKED = Unforked("OpenVINO")
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}


def why_not_openvino() -> str:
    """Say why OpenVINO cannot be used; empty where it can."""
    try:
        import openvino
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "openvino"
        return "OpenVINO is not installed (pip install openvino)" if missing else f"OpenVINO does not load ({error})"
    found = openvino.__version__
    numbers = tuple(int(part) for part in found.split("-")[0].split(".")[:2] if part.isdecimal())
    if numbers < OLDEST:
        return f"OpenVINO {found} is too old (pip install 'openvino>={OLDEST[0]}.{OLDEST[1]}')"
    return ""


@cache
def the_core() -> Core:
    """Return the process's only `openvino.Core`, which is never freed.

    OpenVINO gives the thread that loads its processor plug-in a stack for signal handlers, and unmaps it with the last
    core but leaves it set: the next signal that Python handles (Ctrl-C, SIGTERM) would end the process by SIGSEGV
    (2026.4 on Linux).
    """
    import openvino

    return openvino.Core()


def choose_precision(precision: Precision) -> Precision:
    """Return the number type of convolutions; `auto`: bfloat16 where the processor multiplies it natively.

    Raises
    ------
    NnunetError
        OpenVINO does not compute in this type on this processor.
    """
    known = the_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "auto":
        return "bfloat16" if "BF16" in known else "float32"
    if _CAPABILITIES[precision] not in known:
        raise NnunetError(
            f"precision {precision}: OpenVINO does not compute in it on this processor ({processor().name}); use "
            "float32, or --engine torch"
        )
    return precision


def compile_graphs(
    graphs: Sequence[Model],
    precision: Precision,
    threads: int | None = None,
    cache: Path | None = None,
    *,
    streams: int = 1,
) -> OpenvinoEngine:
    """Return the engine of the networks of one configuration; they are compiled while the program goes on.

    Parameters
    ----------
    graphs
        From `build_graph`, of one window at a time.
    precision
        Of convolutions, from `choose_precision`; statistics of norms and sums are float32.
    threads
        None: all processors of this process.
    cache
        A folder for what compiling makes, by a hash of the network, its weights and this setting, so that the next time
        takes half as long. It is made; where it cannot be written nothing is kept. The oldest files beyond
        CACHE_BYTES are removed.
    streams
        Windows that are computed at a time, each by its share of the threads, in memory of its own; at most 2.
    """
    _UNFORKED.require()
    threads = threads or processors()
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],  # its own default on processors with bfloat16 is bfloat16
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": str(min(streams, threads)),
        "INFERENCE_NUM_THREADS": str(threads),
        "ENABLE_CPU_PINNING": "NO",  # two predictions beside each other would be bound to the same processors
    }
    if cache is not None and _writable(cache):
        settings["CACHE_DIR"] = str(cache)
    return OpenvinoEngine(_compiler().submit(_compiled, the_core(), graphs, settings), precision)


@cache
def _compiler() -> ThreadPoolExecutor:
    """Return the process's only thread that compiles.

    While it compiles, OpenVINO sets the process's locale to C, and then back to what it found: where two threads did
    so beside each other, one would find C, and leave it behind.
    """
    return ThreadPoolExecutor(1, "compile")


def _compiled(core: Core, graphs: Sequence[Model], settings: dict[str, str]) -> tuple[CompiledModel, ...]:
    networks = tuple(core.compile_model(graph, "CPU", settings) for graph in graphs)
    if "CACHE_DIR" in settings:
        _keep_newest(Path(settings["CACHE_DIR"]))
    return networks


def _writable(folder: Path) -> bool:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return os.access(folder, os.W_OK)
    return False


def _keep_newest(folder: Path) -> None:
    """Remove the oldest compiled networks beyond what the cache may hold; others' processes may do the same."""
    with suppress(OSError):
        states = [(path.stat(), path) for path in folder.glob("*.blob")]
        found = sorted(((state.st_mtime, state.st_size, path) for state, path in states), reverse=True)
        kept = 0
        for _, size, path in found:
            kept += size
            if kept > CACHE_BYTES:
                path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Slot:
    """Memory of one window and of its scores, and every network's request that computes from one to the other."""

    window: FloatArray  # (1, c, *tile)
    scores: FloatArray  # (1, classes, *tile)
    requests: tuple[InferRequest, ...]

    @classmethod
    def of(cls, networks: Sequence[CompiledModel]) -> _Slot:
        """Take the memory, once for all networks: of many classes and several folds it would be most that there is."""
        from openvino import Tensor

        (given,) = networks[0].inputs
        slot = cls(
            np.zeros(list(given.shape), np.float32),
            np.empty(_scores_shape(networks[0]), np.float32),
            tuple(network.create_infer_request() for network in networks),
        )
        for request in slot.requests:
            request.set_input_tensor(Tensor(slot.window, shared_memory=True))
            first = 0
            for number, output in enumerate(request.model_outputs):  # parts of the channels, which lie together
                part = slot.scores[:, first : first + output.shape[1]]
                request.set_output_tensor(number, Tensor(part, shared_memory=True))
                first += output.shape[1]
        return slot

    def start(self, network: int, window: FloatArray, axes: Shape) -> None:
        """Begin to compute a window (c, *tile), mirrored along these axes."""
        seen = np.flip(window, tuple(axis + 1 for axis in axes)) if axes else window
        np.copyto(self.window[0], seen)
        self.requests[network].start_async()


def _scores_shape(network: CompiledModel) -> Shape:
    """Return (1, classes, *tile)."""
    outputs = network.outputs
    return (1, sum(output.shape[1] for output in outputs), *list(outputs[0].shape)[2:])


@dataclass(frozen=True, slots=True, eq=False)
class OpenvinoEngine(HostEngine):
    """Engine of compiled networks; scores are NumPy arrays."""

    compiling: Future[tuple[CompiledModel, ...]]
    precision: Precision
    remarks: tuple[str, ...] = ()
    _idle: list[_Slot] = field(default_factory=list)  # that wait to be used again
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def networks(self) -> tuple[CompiledModel, ...]:
        """The networks, as soon as they are compiled."""
        return self.compiling.result()

    def describe(self) -> str:
        """See Engine."""
        import openvino

        return f"OpenVINO {openvino.__version__.split('-')[0]}, {self.precision}, on {processor().name}"

    def scores(
        self,
        windows: FloatArray,
        mirror_axes: Shape,
        activation: OutputActivation = "none",  # noqa: ARG002 (these scores are logits)
        alone: Alone | None = None,
    ) -> Iterator[Scored]:
        """See Engine.

        While one window is computed, the scores of the one before are used and the next is brought into place, unless
        the scores are so large that two of them are too many. Windows are mirrored on their way into the network's
        input, and the outputs are lent, not copied.
        """
        _UNFORKED.require()
        images = mirror_images(mirror_axes)
        with self._slots() as slots:
            for number, network in enumerate(self.networks):
                for scored in _computed(number, slots, windows, images):
                    if alone is not None and not scored.mirrored:
                        alone(number, scored.scores, scored.windows)
                    yield scored
                if len(self.networks) > 1 or len(slots) == 1:
                    network.release_memory()  # of feature maps: the next network takes as much, or the sums do

    @contextmanager
    def _slots(self) -> Iterator[list[_Slot]]:
        """Lend two slots, or one of large scores, to one thread."""
        count = 1 if 4 * prod(_scores_shape(self.networks[0])) > LARGE else 2
        with self._lock:
            taken = [self._idle.pop() for _ in range(min(count, len(self._idle)))]
        taken += [_Slot.of(self.networks) for _ in range(count - len(taken))]
        try:
            yield taken
        finally:
            for slot in taken:
                for request in slot.requests:
                    request.wait()  # one that was started and not asked for, because the caller has stopped
            with self._lock:
                self._idle.extend(taken)


def _computed(network: int, slots: Sequence[_Slot], windows: FloatArray, images: Sequence[Shape]) -> Iterator[Scored]:
    """Compute every mirror image of every window, as many on their way at a time as there are slots."""
    started: list[tuple[_Slot, Shape, int]] = []
    for number, (window, axes) in enumerate(product(range(len(windows)), images)):
        slot = slots[number % len(slots)]
        slot.start(network, windows[window], axes)
        started.append((slot, axes, window))
        if len(started) == len(slots):
            yield _result(network, *started.pop(0))
    for each in started:
        yield _result(network, *each)


def _result(network: int, slot: _Slot, axes: Shape, window: int) -> Scored:
    slot.requests[network].wait()
    return Scored(slot.scores, axes, slice(window, window + 1))
