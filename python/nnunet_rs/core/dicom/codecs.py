"""JPEG 2000, JPEG-LS and lossless JPEG by imagecodecs: a decoding plug-in of pydicom's, for it leaves threads free."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

NAME = "imagecodecs"
_JPEG_2000 = (
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",  # high throughput
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
)
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
DECODER_DEPENDENCIES = dict.fromkeys((*_JPEG_2000, *_JPEG_LS, *_LOSSLESS), ("imagecodecs",))  # pydicom asks for it


def is_available(uid: str) -> bool:
    """Whether a transfer syntax is decoded here; pydicom's name for the question."""
    return uid in DECODER_DEPENDENCIES and _codec(str(uid)) is not None


@cache
def plugged(uid: str) -> str:
    """Make the plug-in known to pydicom's decoder of a transfer syntax; return its name, empty where it has none."""
    from pydicom.pixels import get_decoder

    if not is_available(uid):
        return ""
    decoder = get_decoder(uid)
    if NAME not in decoder.available_plugins:
        decoder.add_plugin(NAME, (__name__, "decode_frame"))
    return NAME


def decode_frame(source: bytes, runner: Any) -> bytes:
    """Decode a frame of one sample a pixel, as pydicom's plug-ins do; colours are left to others."""
    if runner.samples_per_pixel != 1:
        raise ValueError("only frames of one sample a pixel")
    codec = _codec(str(runner.transfer_syntax))
    if codec is None:
        raise ValueError("no codec")
    frame = codec(source)
    if frame.shape != (runner.rows, runner.columns):
        raise ValueError(f"{frame.shape} pixels, the header promises {runner.rows} x {runner.columns}")
    runner.set_option("bits_allocated", frame.dtype.itemsize * 8)
    return bytes(frame.tobytes())


@cache
def _codec(uid: str) -> Callable[[bytes], Any] | None:
    import imagecodecs

    kinds = ((_JPEG_2000, "JPEG2K", "jpeg2k_decode"), (_JPEG_LS, "JPEGLS", "jpegls_decode"))
    for syntaxes, kind, name in (*kinds, (_LOSSLESS, "LJPEG", "ljpeg_decode")):
        if uid in syntaxes and getattr(imagecodecs, kind).available:
            codec: Callable[[bytes], Any] = getattr(imagecodecs, name)
            return codec
    return None
