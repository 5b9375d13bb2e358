import re
from functools import cache
from xml.etree import ElementTree

import numpy as np
import pytest
from nnunet_rs.report.charts import Chart, Line, Row, Scale, lines, named_apart, ranges, strips

STATS = {
    "mean": 40.0,
    "std": 10.0,
    "median": 41.0,
    "min": -100.0,
    "max": 300.0,
    "percentile_00_5": 0.0,
    "percentile_99_5": 90.0,
}


@cache
def some() -> list[Chart]:
    rng = np.random.default_rng(0)
    rows = [Row("liver", rng.uniform(size=30), 1), Row("none", np.full(3, np.nan), 2), Row("one", np.ones(1))]
    curves = [Line("a", [1, 2, 3], [0.1, 0.25, 0.5]), Line("_b", [1], [0.123456], 2), Line("c", [], [], 3)]
    return [
        strips("Volumes", rows, Scale("ml", log=True)),
        lines("Loss", curves, Scale("epoch", whole=True), Scale("loss")),
        ranges("Intensity", [("CT", STATS), ("PET", STATS)]),
    ]


@pytest.mark.parametrize("chart", some(), ids=lambda chart: chart.title)
def test_a_drawing_is_an_element_in_the_pages_colours(chart: Chart) -> None:
    root = ElementTree.fromstring(chart.svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    assert root.tag.endswith("svg")
    assert set(root.attrib) == {"viewBox", "aria-hidden"}
    assert "var(--ink)" in chart.svg
    assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", chart.svg)) <= {"#000000"}  # ticks, which have no length
    assert "font-family" not in chart.svg
    assert "<metadata" not in chart.svg


def test_what_is_written_stays_as_it_is() -> None:
    (chart,) = [chart for chart in some() if chart.title == "Loss"]
    words = [element.text for element in ElementTree.fromstring(chart.svg).iter() if element.tag.endswith("text")]
    assert {"a", "\u200b_b", "epoch", "loss"} <= set(words)
    near = lines("near", [Line("a", [1, 2], [0.1211, 0.1242])], Scale("x"), Scale("y")).svg
    assert re.search(r">0\.12\d\d?<", near)
    assert re.search(r'd="M \d+\.\d\d \d+\.\d\d ', chart.svg)  # coordinates lose what nobody sees


def test_drawings_share_no_names() -> None:
    charts = [named_apart(some()[0].svg, number) for number in (0, 1)]
    names = [set(re.findall(r' id="([^"]+)"', chart)) for chart in charts]
    assert names[0]
    assert names[0] & names[1] == set()
    for chart, known in zip(charts, names, strict=True):
        assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', chart)) <= known


def test_names_that_look_like_references_stay() -> None:
    assert named_apart('<a id="x">url(#y) id="z</a>', 3) == '<a id="d3-x">url(#y) id="z</a>'


def test_drawings_are_told_in_words() -> None:
    volumes, loss, intensity = (chart.alt for chart in some())
    assert "liver: 30 values from" in volumes
    assert "none: no value" in volumes
    assert "one: all 1 are 1" in volumes
    assert "a: from 0.1 to 0.5, between 0.1 and 0.5" in loss
    assert "c: no point" in loss
    assert "middle 99 % from 0 to 90, mean 40" in intensity


def test_every_value_is_a_dot_up_to_a_limit() -> None:
    few, many = (
        strips("x", [Row("x", np.linspace(0, 1, count))], Scale("x")).svg.count("<use") for count in (50, 5000)
    )
    assert many - few == 400 - 50


def test_names_are_no_formulas() -> None:
    chart = strips("x", [Row("$\\frac{1}$ <a> & b", np.arange(5.0))], Scale("x"))
    assert "$\\frac{1}$ &lt;a&gt; &amp; b" in chart.svg


def test_a_single_epoch_has_whole_numbers_beside_it() -> None:
    drawn = lines("Loss", [Line("a", [1], [0.5])], Scale("epoch", whole=True), Scale("loss"))
    words = [element.text for element in ElementTree.fromstring(drawn.svg).iter() if element.tag.endswith("text")]
    ticks = [word for word in words if word and word.isdecimal()]
    assert ticks == ["0", "1", "2"]
