import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.workspace import BEST_JSON
from nnunet_rs.report.blocks import Viewer
from nnunet_rs.report.page import Report, write_report
from nnunet_rs.report.sections.cases import CasesShown, cases_section
from nnunet_rs.report.workfolder import read_work_folder
from nnunet_rs.select.choice import CHOICE, Candidate, Choice
from nnunet_rs.select.postprocessing import PostProcessing

VOID = {"meta", "img", "input", "br", "path", "use"}
SECTIONS = ["dataset", "plan", "training", "scores", "cases", "choice", "provenance"]


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.open, self.words = text, [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(work: Path) -> tuple[Report, Page]:
    path = work.parent / "out" / "report.html"
    written = write_report(work, path, CasesShown(slices=4))
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]  # nothing half-written beside it
    text = path.read_text(encoding="utf-8")
    assert written.bytes == len(text.encode())
    return written, Page(text)


@pytest.fixture(scope="module")
def work(module_maker) -> Path:
    """Two folds trained and validated, a training that was not finished, a choice."""
    made = module_maker()
    made.trained()
    made.training("2d", 0, finished=False)
    choice = Choice(
        ("3d_fullres",),
        PostProcessing(((1,),), ("it helped",)),
        (0, 1),
        (Candidate(("3d_fullres",), 0.5, {"large": 0.5, "small": None}),),
    )
    CHOICE.save(made.work / BEST_JSON, choice)
    return made.work


@pytest.fixture(scope="module")
def made(work: Path) -> tuple[Report, Page]:
    """The page of that folder: written once, for all who only read it."""
    return report(work)


def test_a_folder_with_a_plan_alone_says_what_is_missing(maker) -> None:
    written, page = report(maker().planned())
    assert [attributes["id"] for attributes in page.all("section")] == SECTIONS
    assert "Nothing is trained yet" in page.said
    work = written.path.parent.parent / "work"
    for command in (f"-o {work}", f"nnunet-rs train {work} -c 2d -f 0", f"nnunet-rs best {work}"):
        assert command in page.said
    assert written.figures["prepared"] == {"2d": 0, "3d_fullres": 0}


def test_without_a_plan_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"holds no plan\.json"):
        write_report(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_everything_that_was_made_is_shown(made: tuple[Report, Page]) -> None:
    written, page = made
    for words in (
        "in epoch 5",
        "mean Dice",
        "case_",
        "it helped",
        "the largest component is kept of large",
        "best, 1 of 2",
        "worst, 2 of 2",
    ):
        assert words in page.said, words
    assert written.figures["best_configuration"] == "3d_fullres"
    assert written.figures["chosen"] == ["3d_fullres"]
    assert written.figures["training_seconds"] == 3 * 4 * 60
    assert 0 < written.figures["dice"]["3d_fullres"] < 1
    assert f"{written.figures['dice']['3d_fullres']:.3f}" in page.said


def test_a_page_is_one_file_that_loads_nothing(made: tuple[Report, Page]) -> None:
    _, page = made
    policy = next(tag for tag in page.all("meta") if tag.get("http-equiv"))["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    style = page.text[page.text.index("<style>") : page.text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_a_page_can_be_read_by_those_who_do_not_see_it(made: tuple[Report, Page]) -> None:
    _, page = made
    assert all("alt" in attributes for attributes in page.all("img"))
    assert len(page.all("table")) == len(page.all("caption"))
    drawings = [attributes for _, attributes in page.tags if attributes.get("role") == "img"]
    assert len(drawings) >= 5
    assert all(len(attributes["aria-label"] or "") > 20 for attributes in drawings)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    assert page.all("html") == [{"lang": "en"}]


def test_names_can_hold_anything(maker) -> None:
    hostile = "</script><img src=x onerror=alert(1)>&\"'$x^2$ _a"
    labels = {"background": 0, hostile: 1, "_under": 2}
    _, page = report(maker(labels=labels, channels=("<b>MR</b>",)).trained(folds=(0,)))
    assert hostile in page.said.replace("  ", " ")
    assert "_under" in page.said
    assert not [tag for tag in page.all("img") if "onerror" in tag]
    assert not page.all("b")
    assert len(page.all("script")) == 2  # one case and the page's own


@pytest.mark.parametrize("count", [1, 2, 50])
def test_as_many_cases_as_are_asked_for(work: Path, count: int) -> None:
    section = cases_section(read_work_folder(work), (), CasesShown(cases=count, slices=1), Silent())
    assert sum(isinstance(block, Viewer) for block in section.blocks) == min(count, 2)


def test_files_that_are_gone_or_damaged_are_told_of(maker) -> None:
    made = maker()
    work = made.trained()
    for case in made.dataset.training:
        case.images[0].unlink()
    (work / "models" / "3d_fullres" / "fold_1" / "model.json").write_text("{")
    prepared = work / "prepared" / "2d" / "case_0.zip"
    prepared.unlink()  # configurations may share a case's file
    prepared.write_bytes(b"no zip")
    written, page = report(work)
    assert len(written.remarks) == 3
    assert all(remark in page.said for remark in written.remarks)
    assert "cannot be shown" in page.said
    assert "only 4 of 5 cases are prepared for 2d" in page.said.replace("Only", "only")


def test_a_report_of_the_same_folder_is_the_same_but_for_its_date(work: Path, made: tuple[Report, Page]) -> None:
    first, second = (re.sub(r"<time.*?</time>", "", page.text) for _, page in (made, report(work)))
    assert first == second
