from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import pytest
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.data.archive import Entry, check_entry, read_archive, read_entry, write_archive


def test_entries_come_back_in_place(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    contents = {"one": b"first", "two.bin": bytes(range(256)) * 40, "three": b""}
    assert write_archive(path, contents.items()) == path.stat().st_size
    entries = read_archive(path)
    assert list(entries) == list(contents)
    for name, content in contents.items():
        assert read_entry(path, entries[name]) == content
        start = entries[name].offset
        assert path.read_bytes()[start : start + entries[name].size] == content
    assert entries["one"] == Entry(30 + len("one"), 5, zlib.crc32(b"first"))


def test_files_as_entries(tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(bytes(range(256)) * 9000)
    write_archive(tmp_path / "a", [("x", tmp_path / "content"), ("y", b"end")])
    write_archive(tmp_path / "b", [("x", bytes(range(256)) * 9000), ("y", b"end")])
    for name in ("a", "b"):
        entries = read_archive(tmp_path / name)
        assert read_entry(tmp_path / name, entries["x"]) == bytes(range(256)) * 9000
        assert read_entry(tmp_path / name, entries["y"]) == b"end"


def test_the_bytes_do_not_tell_the_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_archive(tmp_path / name, [("x", b"content")])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_archives_of_others_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("big", "w", force_zip64=True) as stream:
        stream.write(b"content")  # its local header has an extra field
    entries = read_archive(path)
    assert read_entry(path, entries["big"]) == b"content"


def test_missing_and_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with pytest.raises(DatasetError, match=r"a\.zip: no such file; run preprocess"):
        read_archive(path)
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"a\.zip: damaged \(File is not a zip file\)"):
        read_archive(path)


def test_what_the_system_does_not_let_be_read(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot be read \(Is a directory\); see to the disk, its permissions"):
        read_archive(tmp_path)


def test_a_changed_byte_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    write_archive(path, [("x", b"content"), ("y", b"end")])
    whole, entries = path.read_bytes(), read_archive(path)
    path.write_bytes(whole.replace(b"content", b"contend"))
    for read in (read_entry, check_entry):
        with pytest.raises(
            DatasetError, match=r"a\.zip: damaged \(its bytes 31 … 38 have changed\); run preprocess again"
        ):
            read(path, entries["x"])
    check_entry(path, entries["y"])
    path.write_bytes(whole[:33])
    with pytest.raises(DatasetError, match="have changed"):
        read_entry(path, entries["x"])
    path.write_bytes(whole[:-60] + whole[-60:].replace(b"y", b"z"))  # in the directory at the end
    with pytest.raises(DatasetError, match="is called z in one place"):
        read_archive(path)
