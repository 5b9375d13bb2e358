from argparse import ArgumentTypeError

import pytest
from nnunet_rs.cli import values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1024", 1024),
        ("8G", 8 * 2**30),
        ("512m", 512 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("2 TB", 2 * 2**40),
        ("3K", 3072),
    ],
)
def test_size(text: str, expected: int) -> None:
    assert values.size(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90), ("90s", 90), ("20m", 1200), ("1.5h", 5400), ("1h30m", 5400), ("1h1m1s", 3661), ("1h30", 5400),
        ("20m30", 1230), ("1d12", 129600), ("2d", 172800), ("0.5h", 1800), ("1h0.5m", 3630), ("2H", 7200),
        ("30min", 1800), ("2hours", 7200), ("1 h", 3600), ("1 hour 30 min", 5400), ("90 seconds", 90),
        ("2 Days", 172800),
        ("1:30:00", 5400), ("0:20:00", 1200), ("48:00:00", 172800), ("1-12:00:00", 129600),
    ],
)  # fmt: skip
def test_duration(text: str, expected: float) -> None:
    assert values.duration(text) == expected


def test_sizes_of_three() -> None:
    assert values.spacing("3,1,0.5") == (3.0, 1.0, 0.5)
    assert values.patch("64x128x128") == (64, 128, 128)
    assert values.patch("256,256") == (256, 256)


def test_fold() -> None:
    assert values.fold("3") == 3
    assert values.fold("all") == "all"


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (values.size, "8X"),
        (values.size, "0"),
        (values.size, "-1G"),
        (values.size, ""),
        (values.duration, "soon"),
        (values.duration, ""),
        (values.duration, "0s"),
        (values.duration, "1:30"),  # minutes or hours
        (values.duration, "1.5h30"),
        (values.duration, "1h90"),
        (values.duration, "1h90m"),
        (values.duration, "1:90:00"),
        (values.duration, "30m1h"),
        (values.duration, "1h1h"),
        (values.duration, "5s3"),
        (values.duration, "5 m 3 m"),
        (values.duration, "2 weeks"),
        (values.duration, "h"),
        (values.duration, "min 30"),
        (values.duration, "-1h"),
        (values.duration, "9" * 400),
        (values.size, "9" * 400 + "G"),
        (values.count, "0"),
        (values.count, "-3"),
        (values.count, "1.5"),
        (values.seed, "-1"),
        (values.positive, "nan"),
        (values.positive, "inf"),
        (values.step, "1.5"),
        (values.step, "0"),
        (values.spacing, "1,1"),
        (values.spacing, "1,a,1"),
        (values.patch, "64"),
        (values.patch, "64,64.5"),
        (values.fold, "-1"),
        (values.fold, "first"),
        (values.num_folds, "1"),
        (values.num_folds, "five"),
    ],
)
def test_nonsense_is_refused_and_repeated(read, text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"is not|has") as caught:
        read(text)
    assert f"'{text}'" in str(caught.value)


@pytest.mark.parametrize(("text", "value"), [("1/1", (0, 1)), ("2/4", (1, 4))])
def test_parts_are_counted_from_one(text, value):
    assert values.part(text) == value


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "1/0", "a/b", "-1/2"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="as 1/4"):
        values.part(text)


@pytest.mark.parametrize(("text", "expected"), [
    ("none", ()), ("all", (0, 1, 2)), ("0", (0,)), ("0,1", (0, 1)), ("x", (2,)), ("y,Z", (0, 1)), ("2, 0", (0, 2)),
])  # fmt: skip
def test_axes(text: str, expected: tuple[int, ...]) -> None:
    assert values.axes(text) == expected


@pytest.mark.parametrize("text", ["", "3", "left", "-1", "0;1", "zyx", "none,0"])
def test_what_is_no_axis_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="names no axes; write none, all, or some of z,y,x"):
        values.axes(text)
