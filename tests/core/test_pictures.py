"""PNG and BMP of every kind, against numbers written by hand and against Pillow."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.core.io import read_grid, read_labels, read_scan, read_volume
from nnunet_rs.core.issues import IssueError
from PIL import Image

WIDTH, HEIGHT = 13, 7
PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3)).astype(np.uint8)
GREYS = np.repeat(np.arange(256, dtype=np.uint8)[:, np.newaxis], 3, axis=1)


def chunk(name: bytes, part: bytes) -> bytes:
    return struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))


def packed(samples: np.ndarray, depth: int) -> list[bytes]:
    """Rows of samples (y, x[, c]) at `depth` bits, the highest first."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    bits = (samples.reshape(len(samples), -1, 1) >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.astype(np.uint8)).tobytes() for row in bits.reshape(len(samples), -1)]


def png(path: Path, samples: np.ndarray, depth: int, colour: int, *, more: bytes = b"") -> Path:
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    palette = chunk(b"PLTE", PALETTE[: 2**depth].tobytes()) if colour == 3 else b""
    rows = zlib.compress(b"".join(b"\0" + row for row in packed(samples, depth)))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    path.write_bytes(start + palette + more + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def bmp(path: Path, indices: np.ndarray, depth: int, palette: np.ndarray, *, downward: bool = False) -> Path:
    height, width = indices.shape
    row = -(-width * depth // 32) * 4
    rows = [one.ljust(row, b"\0") for one in packed(indices, depth)]
    body = b"".join(rows if downward else rows[::-1])
    table = np.pad(palette[: 2**depth, ::-1], ((0, 0), (0, 1))).tobytes()
    start = 54 + len(table)
    head = b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start)
    head += struct.pack("<IiiHHIIiiII", 40, width, -height if downward else height, 1, depth, 0, 0, 0, 0, 0, 0)
    path.write_bytes(head + table + body)
    return path


def channels(samples: np.ndarray) -> np.ndarray:
    """(y, x[, c]) as (c, 1, y, x)."""
    return np.moveaxis(np.atleast_3d(samples), -1, 0)[:, np.newaxis]


def samples(depth: int, count: int = 1) -> np.ndarray:
    drawn = np.random.default_rng(depth).integers(0, 2**depth, (HEIGHT, WIDTH, count))
    return drawn[..., 0] if count == 1 else drawn


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_png_of_every_depth_keeps_its_numbers(tmp_path: Path, depth: int) -> None:
    path = png(tmp_path / "a.png", samples(depth), depth, 0)
    np.testing.assert_array_equal(read_scan(path).voxels, channels(samples(depth)))
    np.testing.assert_array_equal(read_labels(path).data[0], samples(depth))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(("colour", "count"), [(2, 3), (6, 4)])
def test_colours_of_a_png_are_channels(tmp_path: Path, depth: int, colour: int, count: int) -> None:
    path = png(tmp_path / "a.png", samples(depth, count), depth, colour)
    np.testing.assert_array_equal(read_scan(path).voxels, channels(samples(depth, count)))
    assert read_grid(path) == ((count, 1, HEIGHT, WIDTH), (1.0, 1.0, 1.0))
    with pytest.raises(IssueError, match=f"channels: {count} channels"):
        read_labels(path)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_palette_is_colours_as_image_and_indices_as_labels(tmp_path: Path, depth: int) -> None:
    path = png(tmp_path / "a.png", samples(depth), depth, 3)
    np.testing.assert_array_equal(read_scan(path).voxels, channels(PALETTE[samples(depth)]))
    np.testing.assert_array_equal(read_labels(path).data[0], samples(depth))


@pytest.mark.parametrize("depth", [8, 16])
def test_opaque_alpha_beside_grey_is_left_out_other_alpha_refused(tmp_path: Path, depth: int) -> None:
    both = samples(depth, 2)
    both[..., 1] = 2**depth - 1
    path = png(tmp_path / "a.png", both, depth, 4)
    np.testing.assert_array_equal(read_scan(path).voxels, channels(both[..., 0]))
    both[3, 3, 1] = 0
    with pytest.raises(IssueError, match="channels: grey, and an alpha channel that is not opaque"):
        read_scan(png(path, both, depth, 4))


def test_a_transparent_colour_changes_no_number(tmp_path: Path) -> None:
    for depth in (8, 16):
        part = chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
        path = png(tmp_path / "a.png", samples(depth, 3), depth, 2, more=part)
        np.testing.assert_array_equal(read_scan(path).voxels, channels(samples(depth, 3)))


def test_an_animation_is_refused(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", samples(8), 8, 0, more=chunk(b"acTL", struct.pack(">II", 2, 0)))
    with pytest.raises(IssueError, match="dimensions: an animation of several pictures"):
        read_scan(path)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("downward", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_bmp_with_a_palette(tmp_path: Path, depth: int, downward: bool, grey: bool) -> None:
    palette = GREYS if grey else PALETTE
    path = bmp(tmp_path / "a.bmp", samples(depth), depth, palette, downward=downward)
    expected = channels(palette[samples(depth)])
    np.testing.assert_array_equal(read_scan(path).voxels, expected[:1] if grey else expected)
    np.testing.assert_array_equal(read_labels(path).data[0], samples(depth))
    assert read_grid(path)[0] == (1 if grey else 3, 1, HEIGHT, WIDTH)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_bmp_as_pillow_reads_it(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(samples(8, 3).astype(np.uint8)).convert(mode)
    image.save(tmp_path / "a.bmp")
    with Image.open(tmp_path / "a.bmp") as stored:
        expected = np.asarray(stored.convert("RGB") if stored.mode == "P" else stored)
    np.testing.assert_array_equal(read_scan(tmp_path / "a.bmp").voxels, channels(expected))


def test_run_length_encoded_bmp(tmp_path: Path) -> None:
    runs = bytes([5, 7, 0, 0, 3, 1, 2, 9, 0, 0, 0, 1])  # five of 7; then three of 1, two of 9; from below
    path = bmp(tmp_path / "a.bmp", np.zeros((2, 5), int), 8, PALETTE)
    content = bytearray(path.read_bytes()[: 54 + 1024] + runs)
    content[30:34] = struct.pack("<I", 1)
    path.write_bytes(content)
    assert read_labels(path).data[0].tolist() == [[1, 1, 1, 9, 9], [7, 7, 7, 7, 7]]


def test_what_is_no_png_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(samples(8).astype(np.uint8)).save(path, "JPEG")
    with pytest.raises(IssueError, match="format: the content is JPEG, not PNG; save it as PNG from a source without"):
        read_scan(path)
    Image.fromarray(samples(8).astype(np.uint8)).save(path, "TIFF")
    with pytest.raises(IssueError, match=r"format: the content is TIFF, not PNG; name it \.tif"):
        read_grid(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    with pytest.raises(IssueError, match=r"Git LFS pointer.*git lfs pull"):
        read_scan(path)


def test_cut_and_changed_files_are_told(tmp_path: Path) -> None:
    whole = png(tmp_path / "a.png", samples(8), 8, 0).read_bytes()
    for cut in range(9, len(whole), 7):
        (tmp_path / "a.png").write_bytes(whole[:cut])
        with pytest.raises(IssueError, match="file-truncated: ends early"):
            read_scan(tmp_path / "a.png")
    changed = bytearray(whole)
    changed[60] ^= 4
    (tmp_path / "a.png").write_bytes(changed)
    with pytest.raises(IssueError, match="unreadable: the checksum of its part 'IDAT' is wrong"):
        read_scan(tmp_path / "a.png")
    whole = bmp(tmp_path / "a.bmp", samples(8), 8, GREYS).read_bytes()
    (tmp_path / "a.bmp").write_bytes(whole[:-3])
    with pytest.raises(IssueError, match=r"file-truncated: ends early: 109 bytes of voxels, the header promises 112"):
        read_scan(tmp_path / "a.bmp")


def test_damaged_rows_under_a_right_checksum_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for depth, colour, count in ((8, 0, 1), (16, 2, 3)):
        content = bytearray(png(tmp_path / "a.png", samples(depth, count), depth, colour).read_bytes())
        at = content.index(b"IDAT")
        (size,) = struct.unpack(">I", content[at - 4 : at])
        content[at + 4 + size - 2] ^= 1  # of zlib's checksum
        content[at + 4 + size : at + 8 + size] = struct.pack(">I", zlib.crc32(content[at : at + 4 + size]))
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(IssueError, match="unreadable: the compressed rows are damaged"):
            read_scan(tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")


def test_a_header_that_promises_too_much_asks_for_no_memory(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", samples(8), 8, 0)
    content = path.read_bytes()
    for side in (30_000, 2**31 - 1):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        path.write_bytes(content[:8] + header + content[33:])
        with pytest.raises(IssueError, match=r"file-truncated|memory"):
            read_volume([path])
