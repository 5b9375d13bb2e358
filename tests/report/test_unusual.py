from __future__ import annotations

from nnunet_rs.evaluate.structures import StructureStatistics
from nnunet_rs.evaluate.structures_folder import CaseStructures
from nnunet_rs.report.unusual import by_unusualness


def case(name: str, *structures: tuple[float, int]) -> CaseStructures:
    """Structures a, b … of (ml, components)."""
    made = (
        StructureStatistics("ab"[place], (place + 1,), int(ml * 1000), ml * 1000, parts if ml else 0, None, None)
        for place, (ml, parts) in enumerate(structures)
    )
    return CaseStructures(name, tuple(made))


def test_a_volume_far_from_the_others_comes_first() -> None:
    cases = [case(f"c{k}", (100 + k, 1)) for k in range(6)] + [case("small", (10, 1)), case("c7", (101, 1))]
    first, *rest = by_unusualness(cases)
    assert (first.case, first.reasons) == ("small", ("a has 10.0 ml, the median is 102",))
    assert all(not row.reasons for row in rest)
    assert [row.score for row in rest] == sorted((row.score for row in rest), reverse=True)


def test_alike_cases_are_not_told_for_a_hair() -> None:
    cases = [case(f"c{k}", (100, 1)) for k in range(6)] + [case("hair", (105, 2))]
    assert [row.reasons for row in by_unusualness(cases)] == [()] * 7


def test_parts_and_what_is_missing() -> None:
    cases = [case(f"c{k}", (100, 1), (5, 1)) for k in range(8)]
    cases += [case("parts", (100, 30), (5, 1)), case("missing", (100, 1), (0, 0))]
    by_name = {row.case: row.reasons for row in by_unusualness(cases)}
    assert by_name["parts"] == ("a is in 30 parts, the median is 1",)
    assert by_name["missing"] == ("b is missing, in 1 of 10 cases",)


def test_a_rare_structure_is_told() -> None:
    cases = [case(f"c{k}", (100, 1), (0, 0)) for k in range(9)] + [case("rare", (100, 1), (3, 1))]
    assert by_unusualness(cases)[0].reasons == ("b is there, in 1 of 10 cases",)


def test_entropy_counts_where_it_is_known() -> None:
    cases = [case(f"c{k}", (100, 1)) for k in range(7)]
    entropy = {f"c{k}": 0.05 for k in range(6)} | {"c6": 0.4}
    assert by_unusualness(cases, entropy)[0].reasons == ("the mean entropy is 0.400, the median is 0.050",)
    assert not any(row.reasons for row in by_unusualness(cases))


def test_few_cases_stand_in_the_order_of_their_names() -> None:
    cases = [case("b", (1, 1)), case("a", (100, 50)), case("c", (0, 0))]
    assert [(row.case, row.score) for row in by_unusualness(cases)] == [("a", 0), ("b", 0), ("c", 0)]
    assert by_unusualness([]) == ()


def test_a_case_on_which_the_folds_disagree_is_told() -> None:
    cases = [case(f"c{k}", (100, 1)) for k in range(7)]
    agreed = {f"c{k}": {"a": 0.95} for k in range(6)} | {"c6": {"a": 0.4}}
    first, *rest = by_unusualness(cases, None, agreed)
    assert (first.case, first.reasons) == ("c6", ("the folds agree on a by Dice 0.40, the median is 0.95",))
    assert not any(row.reasons for row in rest)
    assert not any(row.reasons for row in by_unusualness(cases, None, {name: {"a": 0.9} for name in agreed}))


def test_of_few_cases_the_one_comes_first_on_which_the_folds_agree_least() -> None:
    cases = [case("a", (1, 1)), case("b", (100, 50)), case("c", (0, 0))]
    agreed = {"a": {"a": 0.9}, "b": {"a": 0.8}, "c": {"a": 0.95}}
    assert [row.case for row in by_unusualness(cases, None, agreed)] == ["b", "a", "c"]
