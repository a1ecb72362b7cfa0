"""The merge of three mappings by key, which merges every kind of set."""

from hypothesis import given
from hypothesis import strategies as st

from paccel.merge.keyed import MISSING, merge_keyed

SIDE = st.dictionaries(st.sampled_from("abc"), st.integers(0, 2))


@given(SIDE, SIDE, SIDE)
def test_each_key_is_merged_by_itself(base: dict[str, int], ours: dict[str, int], theirs: dict[str, int]) -> None:
    merged = merge_keyed(base, ours, theirs)
    for key in "abc":
        was, mine, new = (side.get(key) for side in (base, ours, theirs))
        if mine != new and was not in (mine, new):
            assert merged is None
            return
        wanted = mine if was == new else new
        assert merged is None or merged.get(key) == wanted
    assert merged is not None
    order = (*ours, *(key for key in theirs if key not in ours))
    assert list(merged) == [key for key in order if key in merged]


def test_values_that_are_equal_in_another_spelling_are_ours() -> None:
    def same(one: str, other: str) -> bool:
        return one.lower() == other.lower()

    assert merge_keyed({"a": "x"}, {"a": "X"}, {"a": "x"}, same=same) == {"a": "X"}
    assert merge_keyed({"a": "x"}, {"a": "y"}, {"a": "Y"}, same=same) == {"a": "y"}
    assert merge_keyed({"a": "x"}, {"a": "X"}, {"a": "z"}, same=same) == {"a": "z"}


def test_a_key_that_both_changed_is_merged_inside_where_that_can_be_done() -> None:
    assert merge_keyed({"a": 1}, {"a": 2}, {"a": 4}, inside=lambda base, ours, theirs: ours + theirs - base) == {"a": 5}
    seen: list[object] = []
    assert merge_keyed({}, {"a": 2}, {"a": 4}, inside=lambda *values: seen.append(values) or MISSING) is None  # type: ignore[func-returns-value]
    assert seen == [(MISSING, 2, 4)]
