"""TIFF of every sample type and layout, against tifffile."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from nnunet_rs.core.io import read_grid, read_labels, read_scan
from nnunet_rs.core.issues import IssueError
from PIL import Image

KINDS = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
GREY = {"photometric": "minisblack"}
LAYOUTS: list[dict[str, Any]] = [{}, {"tile": (16, 16)}, {"rowsperstrip": 7}, {"bigtiff": True}, {"byteorder": ">"}]


def noise(shape: tuple[int, ...], kind: str = "u1") -> np.ndarray:
    return np.random.default_rng(3).integers(0, 100, shape).astype(kind)


def saved(path: Path, array: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, array, **options)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd"])
def test_every_sample_type_layout_and_compression(
    tmp_path: Path, kind: str, layout: dict[str, Any], compression: str | None
) -> None:
    array = noise((37, 45), kind) if kind != "?" else noise((37, 45)) > 50
    path = saved(tmp_path / "a.tif", array, compression=compression, **GREY, **layout)
    np.testing.assert_array_equal(read_scan(path).voxels[0, 0], array)
    np.testing.assert_array_equal(read_labels(path).data[0], array)
    assert read_grid(path)[0] == (1, 1, 37, 45)


@pytest.mark.parametrize("compression", ["lzma", "lerc", "jpeg2000", "webp", "jpegxl"])
def test_further_compressions(tmp_path: Path, compression: str) -> None:
    array = noise((37, 45, 3))
    path = saved(tmp_path / "a.tif", array, compression=compression, photometric="rgb")
    np.testing.assert_array_equal(read_scan(path).voxels[:, 0], np.moveaxis(tifffile.imread(path), -1, 0))


def test_a_compression_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", noise((37, 45)))
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["Compression"].overwrite(34934)
    with pytest.raises(IssueError, match=r"unreadable: compression JPEGXR \(34934\); save it with Deflate"):
        read_scan(path)


@pytest.mark.parametrize(("kind", "predictor"), [("u1", 2), ("u2", 2), ("f2", 3), ("f4", 3), ("f8", 3)])
def test_predictors(tmp_path: Path, kind: str, predictor: int) -> None:
    array = noise((37, 45), kind)
    path = saved(tmp_path / "a.tif", array, compression="zlib", predictor=predictor)
    np.testing.assert_array_equal(read_scan(path).voxels[0, 0], array)


@pytest.mark.parametrize(
    ("shape", "options", "order"),
    [
        ((5, 37, 45), GREY, "zyx"),
        ((37, 45, 3), {"photometric": "rgb"}, "yxc"),
        ((37, 45, 3), {"photometric": "rgb", "tile": (16, 16)}, "yxc"),
        ((37, 45, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, "yxc"),
        ((3, 37, 45), {"photometric": "rgb", "planarconfig": "separate"}, "cyx"),
        ((37, 45, 2), {"planarconfig": "contig", **GREY}, "yxc"),
        ((5, 37, 45, 3), {"photometric": "rgb"}, "zyxc"),
        ((4, 37, 45), {"imagej": True}, "zyx"),  # one axis of pages is slices, whatever it is called
        ((4, 37, 45), {"ome": True}, "zyx"),
        ((4, 2, 37, 45), {"imagej": True}, "zcyx"),
        ((4, 2, 37, 45), {"ome": True, "metadata": {"axes": "ZCYX"}}, "zcyx"),
    ],
)
def test_pages_are_slices_and_samples_channels(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any], order: str
) -> None:
    array = noise(shape, "u1")
    path = saved(tmp_path / "a.tif", array, **options)
    for axis in "cz":
        if axis not in order:
            array, order = array[np.newaxis], axis + order
    expected = array.transpose([order.index(axis) for axis in "czyx"])
    np.testing.assert_array_equal(read_scan(path).voxels, expected)
    assert read_grid(path)[0] == expected.shape


def test_a_stack_of_imagej_with_one_page_for_all_slices(tmp_path: Path) -> None:
    """ImageJ writes large stacks so: slices follow one another, and only the description counts them."""
    stack = noise((4, 20, 30), "u2")
    description = "ImageJ=1.53t\nimages=4\nslices=4\n"
    path = saved(tmp_path / "a.tif", stack[0], description=description, metadata=None, **GREY)
    path.write_bytes(path.read_bytes() + stack[1:].tobytes())
    np.testing.assert_array_equal(read_scan(path).voxels[0], stack)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(IssueError, match="file-truncated"):
        read_scan(path)


def test_pages_written_one_by_one_are_one_stack_and_smaller_copies_are_left_out(tmp_path: Path) -> None:
    pages = noise((3, 37, 45))
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in pages:
            file.write(page, contiguous=False)
        file.write(pages[0, ::4, ::4], subfiletype=1)
    np.testing.assert_array_equal(read_scan(tmp_path / "a.tif").voxels[0], pages)
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        file.write(pages[0], subifds=1)
        file.write(pages[0, ::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read_scan(tmp_path / "b.tif").voxels[0, 0], pages[0])


def test_pages_of_several_sizes_and_stacks_in_time_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(noise((37, 45)))
        file.write(noise((9, 9)))
    with pytest.raises(IssueError, match="dimensions: 2 images that differ: 37 x 45, 9 x 9"):
        read_scan(tmp_path / "a.tif")
    path = saved(tmp_path / "b.tif", noise((2, 3, 37, 45)), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(IssueError, match="dimensions: axes TZYX of size 2 x 3 x 37 x 45"):
        read_scan(path)


def test_complex_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IssueError, match="voxel-type: complex64 samples"):
        read_scan(saved(tmp_path / "a.tif", noise((37, 45), "c8")))


@pytest.mark.parametrize("compression", [None, "group3", "group4", "tiff_lzw", "packbits", "tiff_deflate"])
def test_masks_of_one_bit(tmp_path: Path, compression: str | None) -> None:
    if compression in ("group3", "group4") and 4 not in tifffile.TIFF.DECOMPRESSORS:
        pytest.skip("this tifffile does not read what faxes are compressed by; it is refused by name")
    mask = noise((37, 45)) > 60
    Image.fromarray(mask).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").data[0], mask)


def test_a_colour_map_changes_no_number(tmp_path: Path) -> None:
    array, colours = noise((37, 45)), noise((3, 256), "u2")
    path = saved(tmp_path / "a.tif", array, photometric="palette", colormap=colours)
    np.testing.assert_array_equal(read_scan(path).voxels[0, 0], array)
    np.testing.assert_array_equal(read_labels(path).data[0], array)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"photometric": "miniswhite"}, "white-is-zero"),
        ({"extratags": [(274, "H", 1, 6, True)], **GREY}, "orientation-tag"),
    ],
)
def test_what_viewers_turn_is_taken_as_stored_with_a_warning(
    tmp_path: Path, options: dict[str, Any], rule: str
) -> None:
    array = noise((37, 45))
    scan = read_scan(saved(tmp_path / "a.tif", array, **options))
    np.testing.assert_array_equal(scan.voxels[0, 0], array)
    assert [(issue.rule, issue.fatal) for issue in scan.issues] == [(rule, False)]


def test_an_assumed_spacing_is_told_of_stacks(tmp_path: Path) -> None:
    path = saved(tmp_path / "case_0000.tif", noise((3, 6, 7)), **GREY)
    (issue,) = read_scan(path).issues
    assert (issue.rule, issue.fatal) == ("spacing-assumed", False)
    assert issue.advice == 'write case.json beside it: {"spacing": [z, y, x]}'
    (tmp_path / "case.json").write_text(json.dumps({"spacing": [4, 0.5, 0.5]}))
    assert read_scan(path).issues == ()
    assert read_scan(path).spacing == (4.0, 0.5, 0.5)
    assert read_scan(saved(tmp_path / "slice_0000.tif", noise((6, 7)))).issues == ()


@pytest.mark.parametrize("spacing", [None, [1, 2], [1, 2, "3"], [1, True, 1], [0, 1, 1], [1, 1, -1], [1, 1, 10**400]])
def test_a_spacing_that_is_none(tmp_path: Path, spacing: Any) -> None:
    path = saved(tmp_path / "case_0000.tif", noise((3, 6, 7)), **GREY)
    (tmp_path / "case.json").write_text(json.dumps({"spacing": spacing}))
    try:
        issues = read_scan(path).issues
    except IssueError as error:
        issues = (error.issue,)
    assert [issue.rule for issue in issues] == ["spacing-invalid"]


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"imagej": True}])
def test_a_file_cut_at_any_place_is_told(tmp_path: Path, options: dict[str, Any]) -> None:
    whole = saved(tmp_path / "a.tif", noise((3, 37, 45), "u2"), **(GREY if "imagej" not in options else {}), **options)
    content = whole.read_bytes()
    for cut in (5, 20, 200, len(content) // 2, len(content) - 400):
        (tmp_path / "b.tif").write_bytes(content[:cut])
        with pytest.raises(IssueError, match=r"file-truncated|is a damaged TIFF|holds no image") as caught:
            read_scan(tmp_path / "b.tif")
        assert "0x" not in str(caught.value)


def test_a_missing_strip_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", noise((40, 45)), compression="zlib", rowsperstrip=10)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[0].tags["StripByteCounts"]
        tag.overwrite([*tag.value[:3], 0])
    with pytest.raises(IssueError, match="file-truncated: 3 of 4 strips or tiles are there"):
        read_scan(path)


def test_a_header_that_promises_too_much_asks_for_no_memory(tmp_path: Path) -> None:
    for compression in (None, "zlib"):
        path = saved(tmp_path / "a.tif", noise((40, 45)), compression=compression)
        with tifffile.TiffFile(path, mode="r+b") as file:
            for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
                file.pages[0].tags[name].overwrite(60_000)
        with pytest.raises(IssueError, match=r"ends early|memory"):
            read_scan(path)


def test_reading_again_and_again_adds_no_handler(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", noise((2, 3, 4)))
    read_grid(path)
    before = list(logging.getLogger("tifffile").handlers)
    read_grid(path)
    assert logging.getLogger("tifffile").handlers == before
