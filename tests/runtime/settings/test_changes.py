"""Which settings may differ when a run is resumed."""

from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

import pytest

from paccel.runtime.config import load_config
from paccel.runtime.errors import ConfigError
from paccel.runtime.settings.changes import MAY_CHANGE, compare_settings, fixed_settings, may_change
from paccel.runtime.settings.plain import config_from_dict, config_to_dict


@dataclass
class Required:
    data: str
    """What to read."""


@dataclass
class Place:
    root: Path = may_change(Path("data"))  # noqa: RUF009
    width: int = 8


@dataclass
class Wide:
    """A nested table, whose default differs from that of its class."""

    width: int = 8
    depth: int = 2


@dataclass
class Yesterday:
    width: int = 8
    place: Place = field(default_factory=Place)
    note: str = may_change("")
    tags: list[str] = may_change(["a"])  # noqa: RUF009
    epochs: int = 3


@dataclass
class Today(Yesterday):
    smoothing: float = 0.0
    wide: Wide = field(default_factory=lambda: Wide(width=16))


class TestWhatMayChange:
    """Settings of a run that is resumed."""

    def compared(self, now: Any, before: dict[str, Any], *free: str) -> tuple[list[str], list[str]]:
        return compare_settings(type(now), config_to_dict(now), before, free)

    def test_a_new_field_at_its_default_may_come_and_is_named(self) -> None:
        before = config_to_dict(Yesterday())
        assert config_from_dict(Today, before) == Today()
        assert self.compared(Today(), before) == (
            ["smoothing is new: 0.0", "wide is new: {'width': 16, 'depth': 2}"],
            [],
        )
        assert self.compared(Today(smoothing=0.1), before)[1] == ["smoothing is new: 0.1"]

    def test_a_new_field_of_a_table_has_the_default_of_that_table(self) -> None:
        before = config_to_dict(Today())
        del before["wide"]["width"]  # its class has 8, and the settings have 16
        assert config_from_dict(Today, before).wide == Wide(16)
        assert self.compared(Today(), before) == (["wide.width is new: 16"], [])
        assert self.compared(Today(wide=Wide(8)), before) == ([], ["wide.width is new: 8"])

    def test_a_new_field_without_a_default_is_missing(self) -> None:
        with pytest.raises(ConfigError, match="`data` is missing"):
            config_from_dict(Required, {})
        assert compare_settings(Required, {"data": "x"}, {}) == ([], ["data is new: 'x'"])

    def test_a_field_may_be_removed(self) -> None:
        before = config_to_dict(Today()) | {"old": 3}
        before["place"]["old"] = 4
        assert config_from_dict(Today, before) == Today()
        assert self.compared(Today(), before) == (["place.old was removed (was 4)", "old was removed (was 3)"], [])

    def test_marked_fields_may_change_and_others_may_not(self) -> None:
        before = config_to_dict(Yesterday())
        now = Yesterday(width=9, note="b", tags=[], place=Place(Path("d"), width=3))
        may, may_not = self.compared(now, before)
        assert may == ["place.root was 'data', is 'd'", "note was '', is 'b'", "tags was ['a'], is []"]
        assert may_not == ["width was 8, is 9", "place.width was 8, is 3"]

    def test_instances_do_not_share_a_marked_default(self) -> None:
        Yesterday().tags.append("b")
        assert Yesterday().tags == ["a"]
        assert load_config(Yesterday, ["--tags", "c", "--place.root", "e"]).place == Place(Path("e"))

    @pytest.mark.parametrize("name", ["accumulate", "eval_batch_size", "micro_batch_size", "eval_every", "data_dir"])
    def test_a_setting_that_changes_no_result_may_change(self, name: str) -> None:
        config = make_dataclass("Config", [(name, Any), ("batch_size", int)])
        now, before = {name: 4, "batch_size": 8}, {name: 1, "batch_size": 8}
        assert compare_settings(config, now, before) == ([f"{name} was 1, is 4"], [])
        assert compare_settings(config, now | {"batch_size": 9}, before)[1] == ["batch_size was 8, is 9"]

    def test_a_name_that_may_change_within_a_table_of_the_user_may_not(self) -> None:
        @dataclass
        class Inner:
            epochs: int = 1

        config = make_dataclass("Config", [("inner", Inner)])
        assert compare_settings(config, {"inner": {"epochs": 2}}, {"inner": {"epochs": 1}})[0] == []

    def test_more_names_may_be_free(self) -> None:
        before = config_to_dict(Yesterday())
        assert self.compared(Yesterday(width=9), before, "width") == (["width was 8, is 9"], [])

    def test_the_fixed_settings_are_those_that_may_not_change(self) -> None:
        fixed = fixed_settings(Yesterday, config_to_dict(Yesterday()))
        assert set(fixed) == {"width", "place"}
        assert "epochs" in MAY_CHANGE
