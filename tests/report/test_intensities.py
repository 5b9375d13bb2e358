import re

from nnunet_rs.report.intensities import draw_intensities
from nnunet_rs.report.workfolder import read_work_folder


def test_each_channel_has_a_drawing_and_each_class_its_place(maker) -> None:
    work = read_work_folder(maker(channels=("T1", "T2"), spacing=(1, 1, 1)).prepared())
    first, second = draw_intensities(work)
    assert (first.title, second.title) == ("T1, normalised", "T2, normalised")
    for chart in (first, second):
        assert len(re.findall(r"(large|small): from", chart.alt)) == 2


def test_without_prepared_cases_there_is_nothing_to_draw(maker) -> None:
    assert draw_intensities(read_work_folder(maker().planned())) == ()
