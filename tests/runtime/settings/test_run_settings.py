"""The fields of a `Config` that a run reads: each by one name and of one type."""

import re
from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paccel.runtime.errors import ConfigError
from paccel.runtime.run import Run
from paccel.runtime.settings.run_settings import RunSettings

ROOT = Path(__file__).parents[3]


class TestWhatARunReads:
    def made(self, **fields: Any) -> Any:
        return make_dataclass("Config", list(fields))(**fields)

    def test_missing_fields_have_defaults_and_given_ones_are_read(self) -> None:
        assert RunSettings.of(self.made(width=8)) == RunSettings()
        given = self.made(seed=3, time_limit=60, trackers=["wandb"], run_dir="runs/mine", resume=Path("runs/other"))
        found = RunSettings.of(given)
        assert found == RunSettings(
            3, time_limit=60.0, trackers=("wandb",), run_dir=Path("runs/mine"), resume="runs/other"
        )

    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("time_limits", "time_limit"),
            ("timelimit", "time_limit"),
            ("tracker", "trackers"),
            ("precison", "precision"),
            ("Seed", "seed"),
            ("rundir", "run_dir"),
            ("skip_nonfinite", "skip_non_finite"),
        ],
    )
    def test_a_field_that_is_spelt_almost_like_one_of_them_is_an_error_that_names_it(
        self, name: str, near: str
    ) -> None:
        with pytest.raises(ConfigError, match=f"`{name}` is not read: rename it to `{near}`"):
            RunSettings.of(self.made(**{name: 1}))
        RunSettings.of(self.made(**{name: 1, near: getattr(RunSettings(), near)}))  # with both, it is no mistake

    def test_no_field_of_a_template_or_a_recipe_is_mistaken_for_one_of_them(self) -> None:
        files = [p for top in ("templates", "docs") for p in (ROOT / top).rglob("*") if p.suffix in (".py", ".md")]
        names = {
            name for path in files for name in re.findall(r"(?m)^[ +]*(\w+): \S", path.read_text(encoding="utf-8"))
        }
        assert {"log_every", "learning_rate", "run_dir"} <= names
        own = {each.name for each in fields(RunSettings)}
        RunSettings.of(self.made(**dict.fromkeys(sorted(names - own))))

    @pytest.mark.parametrize(
        ("name", "value", "problem"),
        [
            ("seed", "1", "`seed` must be a whole number"),
            ("compile", 1, "`compile` must be true or false"),
            ("trackers", "wandb", "`trackers` must be a list"),
            ("time_limit", "1h", "`time_limit` must be a number"),
            ("skip_non_finite", None, "`skip_non_finite` must be a whole number"),
            ("seed", object(), "`seed` is a `object`"),
            ("seed", 1.5, "`seed` must be a whole number, not 1.5"),
            ("seed", True, "`seed` must be a whole number, not true"),
            ("process_timeout", "1h", "`process_timeout` must be a number, not"),
            ("log_every", 0, "`log_every` must be at least 1, not 0; None is off"),
            ("max_grad_norm", np.float64(0), "`max_grad_norm` must be above 0, not 0.0; None is off"),
        ],
    )
    def test_a_value_of_the_wrong_type_is_named(self, name: str, value: Any, problem: str) -> None:
        with pytest.raises(ConfigError, match=problem):
            RunSettings.of(self.made(**{name: value}))

    def test_an_evaluation_does_not_check_the_numbers_of_an_old_run(self) -> None:
        RunSettings.of(self.made(log_every=0, num_workers=-1), trains=False)
        with pytest.raises(ConfigError, match=r"(?s)`log_every`.*`num_workers`"):
            RunSettings.of(self.made(log_every=0, num_workers=-1))

    def test_settings_that_are_not_a_dataclass_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="instance of a dataclass, not a `dict`"):
            RunSettings.of({"seed": 1})

    def test_all_problems_come_at_once_and_before_anything_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError, match=r"(?s)`time_limits`.*`seed`"):
            Run(self.made(time_limits=60.0, seed="0"))
        assert list(tmp_path.iterdir()) == []
