from __future__ import annotations

from pathlib import Path

import pytest
from nnunet_rs.core.content import kind_of, read_content, reason, require_kind, require_memory
from nnunet_rs.core.issues import IssueError


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"II*\0", "TIFF"),
        (b"MM\0+", "TIFF"),
        (b"NRRD0005\n", "NRRD"),
        (b"ObjectType = Image\n", "MetaImage"),
        (b"\x1f\x8b\x08", "gzip"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"\x5c\x01\0\0", "NIfTI"),
        (b"what", ""),
    ],
)
def test_the_first_bytes_tell_the_format(content: bytes, kind: str) -> None:
    assert kind_of(content) == kind


def test_another_format_than_the_ending_says_is_named_with_a_way_out() -> None:
    require_kind(Path("a.png"), b"\x89PNG\r\n\x1a\n", "PNG")
    for content, advice in (
        (b"BM", r"name it \.bmp"),
        (b"GIF89a", "save it as PNG"),
        (b"version https://git-lfs", "pull"),
    ):
        with pytest.raises(IssueError, match=advice):
            require_kind(Path("a.png"), content, "PNG")


def test_what_no_machine_holds_is_refused_before_it_is_asked_for() -> None:
    require_memory(Path("a.png"), 1000, "10 x 100 pixels")
    with pytest.raises(IssueError, match=r"memory: 1000000 x 1000000 pixels take 1000\.00 GB, .* GB of memory"):
        require_memory(Path("a.png"), 10**12, "1000000 x 1000000 pixels")


def test_a_reason_is_one_line_without_addresses() -> None:
    assert reason(ValueError("first\n\n ITK: Reader(0x55da5e333d50): bad\n")) == "ITK: Reader: bad"
    assert reason(ValueError("<Decoder object at 0x7f00> failed")) == "failed"
    assert reason(KeyError()) == "KeyError"


def test_folders_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(IssueError, match="unreadable"):
        read_content(tmp_path)
    with pytest.raises(IssueError, match="missing: no such file"):
        read_content(tmp_path / "a")
