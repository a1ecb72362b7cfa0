"""Settings come from the command line, a file or JSON, and every mistake gets one clear message."""

import json
import math
import re
import sys
from dataclasses import dataclass, field, fields, make_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paccel.runtime.config import RunSettings, config_from_dict, config_to_dict, load_config
from paccel.runtime.errors import ConfigError
from paccel.runtime.run import Run

ROOT = Path(__file__).parents[2]


class Size(Enum):
    SMALL = 1
    LARGE = 2


@dataclass(frozen=True)
class Inner:
    width: int = 8
    """Units in each layer."""


@dataclass(frozen=True)
class Config:
    """Train something."""

    epochs: int | None = 10
    """Passes over the data. `None` is off."""
    learning_rate: float = 1e-3  # at its peak, before the decay
    max_grad_norm: float | None = 1.0
    """Clip the norm of the gradient, in no unit."""
    precision: Literal["auto", "fp32"] = "auto"
    """How to compute."""
    compile: bool = False
    """Compile the model."""
    trackers: tuple[str, ...] = ()
    """Where else to log."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Of Adam."""
    run_dir: Path | None = None
    """Where to write."""
    size: Size = Size.SMALL
    """Of the model."""
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.epochs == 13:
            raise ValueError("`--epochs 13`: nobody trains thirteen epochs")


@dataclass
class Required:
    data: str
    """What to read."""


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        (tmp_path / "c.toml").write_text(text)
        return str(tmp_path / "c.toml")

    return write


def usage_error(capsys: pytest.CaptureFixture[str], config: type, *args: str) -> str:
    with pytest.raises(SystemExit) as caught:
        load_config(config, args)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_without_arguments_the_defaults_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert load_config(Config) == Config()


@pytest.mark.parametrize("flag", ["--learning-rate", "--learning_rate"])
def test_names_are_taken_in_kebab_and_snake_case(flag: str) -> None:
    assert load_config(Config, [flag, "0.5"]).learning_rate == 0.5
    assert load_config(Config, [f"{flag}=0.5"]).learning_rate == 0.5


def test_every_type_is_read_from_the_command_line() -> None:
    args = [
        "--max-grad-norm",
        "None",
        "--epochs",
        "None",
        "--precision",
        "fp32",
        "--compile",
        "--trackers",
        "a",
        "b",
        "--betas",
        "0.1",
        "0.2",
    ]
    args += ["--run-dir", "runs/x", "--size", "LARGE", "--inner.width", "3"]
    assert load_config(Config, args) == Config(
        epochs=None,
        max_grad_norm=None,
        precision="fp32",
        compile=True,
        trackers=("a", "b"),
        betas=(0.1, 0.2),
        run_dir=Path("runs/x"),
        size=Size.LARGE,
        inner=Inner(3),
    )
    assert load_config(Config, ["--no-compile", "--trackers"]) == Config()


def test_help_shows_strings_and_comments_and_the_file_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load_config(Config, ["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for text in ("Train something.", "Passes over the data.", "at its peak", "Units in each", "--config FILE.toml"):
        assert text in shown


def test_a_file_gives_values_and_the_command_line_wins(toml: Any) -> None:
    file = toml('epochs = 3\nlearning-rate = 1\nmax_grad_norm = "None"\ntrackers = ["a"]\nrun_dir = "r"\nsize = "LARGE"\n'
                "betas = [0.5, inf]\n[inner]\nwidth = 2\n")  # fmt: skip
    expected = Config(
        3, 1.0, None, trackers=("a",), run_dir=Path("r"), size=Size.LARGE, betas=(0.5, math.inf), inner=Inner(2)
    )
    assert load_config(Config, ["--config", file]) == expected
    loaded = load_config(Config, ["--epochs", "7", f"--config={file}", "--inner.width", "9"])
    assert (loaded.epochs, loaded.learning_rate, loaded.inner.width) == (7, 1.0, 9)
    assert type(loaded.learning_rate) is float


def test_the_settings_are_validated_after_the_command_line(toml: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = toml("epochs = 13")
    assert load_config(Config, ["--config", file, "--epochs", "12"]).epochs == 12
    assert "nobody trains thirteen epochs" in usage_error(capsys, Config, "--config", file)
    assert "nobody trains thirteen epochs" in usage_error(capsys, Config, "--epochs", "13")


def test_a_file_can_give_what_is_required(toml: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_config(Required, ["--config", toml('data = "x"')]).data == "x"
    assert "--data" in usage_error(capsys, Required, "--config", toml(""))


def test_everything_that_is_wrong_in_a_file_is_said_at_once(toml: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = toml('epoch = 3\nlearning_rate = "fast"\nprecision = "fp8"\ncompile = 1\nbetas = [1]\ntrackers = "a"\n'
                'size = "HUGE"\nrun_dir = 3\nepochs = true\nmax-grad-norm = 1\nmax_grad_norm = 2\n[inner]\ndepth = 2\n')  # fmt: skip
    assert usage_error(capsys, Config, "--config", file).splitlines()[1:-1] == [
        "  `epoch` is unknown; did you mean `epochs`?",
        '  `learning_rate` must be a number, not "fast"',
        '  `precision` must be one of `auto`, `fp32`, not "fp8"',
        "  `compile` must be true or false, not 1",
        "  `betas` must be a list of 2, not [1]",
        '  `trackers` must be a list, not "a"',
        '  `size` must be one of `SMALL`, `LARGE`, not "HUGE"',
        "  `run_dir` must be a path in quotes, not 3",
        "  `epochs` must be a whole number, not true",
        "  `max_grad_norm` is given twice",
        "  `inner.depth` is unknown; did you mean `width`?",
    ]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--config"], "`--config` needs a file"),
        (["--config", "--compile"], "`--config` needs a file"),
        (["--config", "none.toml"], "`--config none.toml` cannot be read: No such file"),
        (["--config", "."], "cannot be read: Is a directory"),
        (["--config", "a", "--config=b"], "given 2 times: `a`, `b`"),
        (["--epochs", "many"], "--epochs"),
        (["--precision", "fp8"], "fp32"),
        (["--epoch", "3"], "--epochs"),
        (["3"], "3"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_message(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in usage_error(capsys, Config, *args)


@pytest.mark.parametrize("content", [b"a = = 1", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_said_to_be_so(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_bytes(content)
    assert "is not valid TOML" in usage_error(capsys, Config, "--config", str(tmp_path / "c.toml"))


@pytest.mark.parametrize("args", [["--help"], ["--epochs", "x"], ["--config", "none.toml"], ["--epochs", "13"]])
def test_only_the_first_process_of_a_host_speaks(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit) as caught:
        load_config(Config, args)
    assert caught.value.code == (0 if args == ["--help"] else 2)
    assert capsys.readouterr() == ("", "")


def test_a_field_of_that_name_takes_the_option() -> None:
    @dataclass
    class WithConfig:
        config: str = "a"

    assert load_config(WithConfig, ["--config", "b"]).config == "b"


configs = st.builds(
    Config,
    epochs=st.none() | st.integers(14, 10**20),
    learning_rate=st.floats(allow_nan=False),
    max_grad_norm=st.none() | st.floats(allow_nan=False),
    precision=st.sampled_from(["auto", "fp32"]),
    compile=st.booleans(),
    trackers=st.lists(st.text(max_size=3), max_size=3).map(tuple),
    run_dir=st.none() | st.sampled_from([Path("a/b"), Path("/"), Path()]),
    size=st.sampled_from(Size),
    inner=st.builds(Inner, st.integers()),
)


@settings(max_examples=100, deadline=None)
@given(configs)
def test_settings_go_to_json_and_back(config: Config) -> None:
    assert config_from_dict(Config, json.loads(json.dumps(config_to_dict(config), allow_nan=False))) == config


def test_unknown_missing_and_wrong_settings_are_listed_together() -> None:
    values = config_to_dict(Config())
    del values["epochs"]
    values |= {"learning_rate": None, "epoch": 3}
    with pytest.raises(ConfigError) as caught:
        config_from_dict(Config, values)
    assert str(caught.value).splitlines() == [
        "The settings do not fit `Config`:",
        "  `learning_rate` must be a number, not null",
        "  `epoch` is unknown; did you mean `epochs`?",
        "  `epochs` is missing",
    ]
    with pytest.raises(ConfigError, match="thirteen"):
        config_from_dict(Config, config_to_dict(Config()) | {"epochs": 13})


def test_what_json_cannot_hold_is_refused_by_name() -> None:
    @dataclass
    class Odd:
        function: Any = len
        items: tuple[Any, ...] = (1, {2})

    with pytest.raises(ConfigError) as caught:
        config_to_dict(Odd())
    assert str(caught.value).splitlines()[1:] == [
        "  `function` is a `builtin_function_or_method`",
        "  `items[1]` is a `set`",
    ]
    with pytest.raises(ConfigError, match="instance of a dataclass"):
        config_to_dict({"a": 1})


class TestWhatARunReads:
    """Its fields of the user's settings: each by one name and of one type."""

    def made(self, **fields: Any) -> Any:
        return make_dataclass("Config", list(fields))(**fields)

    def test_what_is_not_there_has_a_default_and_what_is_there_is_taken(self) -> None:
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

    def test_no_field_of_a_template_or_a_recipe_is_taken_for_one_of_them(self) -> None:
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
        ],
    )
    def test_a_value_of_the_wrong_type_is_named(self, name: str, value: Any, problem: str) -> None:
        with pytest.raises(ConfigError, match=problem):
            RunSettings.of(self.made(**{name: value}))

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
