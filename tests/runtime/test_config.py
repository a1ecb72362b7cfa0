"""Settings come from the command line, a file or JSON, and every mistake gets one clear message."""

import json
import math
import sys
from dataclasses import dataclass, field, make_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paccel.runtime.config import load_config
from paccel.runtime.errors import ConfigError, exit_with_message
from paccel.runtime.settings.changes import compare_settings
from paccel.runtime.settings.plain import config_from_dict, config_to_dict


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


def test_a_file_sets_values_and_the_command_line_overrides_them(toml: Any) -> None:
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


def test_a_file_can_set_a_required_field(toml: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_config(Required, ["--config", toml('data = "x"')]).data == "x"
    assert "--data" in usage_error(capsys, Required, "--config", toml(""))


def test_one_message_lists_all_that_is_wrong_in_a_file(toml: Any, capsys: pytest.CaptureFixture[str]) -> None:
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
def test_a_file_that_is_not_toml_is_an_error(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_bytes(content)
    assert "is not valid TOML" in usage_error(capsys, Config, "--config", str(tmp_path / "c.toml"))


@pytest.mark.parametrize("args", [["--help"], ["--epochs", "x"], ["--config", "none.toml"], ["--epochs", "13"]])
def test_only_the_first_process_of_a_host_prints(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as caught:
        load_config(Config, args)
    assert caught.value.code == (0 if args == ["--help"] else 2)
    assert capsys.readouterr() == ("", "")


def test_a_rank_below_0_is_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for rank, size in (("-1", "2"), ("3", ""), ("x", "2")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", size)
        assert "--epochs" in usage_error(capsys, Config, "--epoch", "3")
        with pytest.raises(SystemExit), exit_with_message():
            raise ConfigError("wrong")
        assert capsys.readouterr().err == "error: wrong\n"


def test_a_field_named_config_gets_the_option() -> None:
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


def test_missing_and_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_dict(Required, {"data": 3} | {"more": 1})
    assert str(caught.value).splitlines() == ["The settings do not fit `Required`:", "  `data` must be text, not 3"]
    with pytest.raises(ConfigError, match="`data` is missing"):
        config_from_dict(Required, {})
    with pytest.raises(ConfigError, match="thirteen"):
        config_from_dict(Config, config_to_dict(Config()) | {"epochs": 13})


def test_values_that_json_cannot_hold_are_named() -> None:
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


@dataclass(frozen=True)
class Adam:
    rate: float = 0.5


@dataclass(frozen=True)
class SGD:
    rate: float = 0.5
    momentum: float = 0.9


@dataclass(frozen=True)
class Nesterov(SGD):
    pass


@dataclass(frozen=True)
class WithChoice:
    optimizer: Adam | SGD = field(default_factory=Adam)
    averaged: tuple[Adam | SGD, ...] = ()
    second: SGD | None = None


@dataclass(frozen=True)
class Nested:
    choice: WithChoice = field(default_factory=WithChoice)


class TestASettingThatIsOneOfSeveralDataclasses:
    @pytest.mark.parametrize(
        "config",
        [
            WithChoice(),
            WithChoice(SGD()),
            WithChoice(SGD(0.1, 0.0), averaged=(SGD(), Adam(), SGD(0.2))),
            WithChoice(second=Nesterov(0.3)),  # a subclass is of its own class too
            Nested(WithChoice(SGD())),
        ],
    )
    def test_its_class_is_restored_from_json(self, config: Any) -> None:
        found = config_from_dict(type(config), json.loads(json.dumps(config_to_dict(config))))
        assert found == config
        assert repr(found) == repr(config)  # `==` of dataclasses compares the class, this one those of their fields

    def test_a_class_is_written_only_where_the_field_allows_several(self) -> None:
        plain = config_to_dict(WithChoice(second=SGD()))
        assert plain["optimizer"] == {"class": "Adam", "rate": 0.5}
        assert plain["second"] == {"rate": 0.5, "momentum": 0.9}

    def test_the_command_line_chooses_it(self) -> None:
        assert load_config(WithChoice, ["optimizer:sgd", "--optimizer.momentum", "0.1"]).optimizer == SGD(0.5, 0.1)
        assert load_config(WithChoice, []).optimizer == Adam()

    def test_a_file_chooses_it_and_the_command_line_overrides_it(
        self, toml: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = toml('[optimizer]\nclass = "SGD"\nrate = 0.25')
        assert load_config(WithChoice, ["--config", file]).optimizer == SGD(0.25)
        chosen = load_config(WithChoice, ["--config", file, "optimizer:sgd", "--optimizer.rate", "1"])
        assert chosen.optimizer == SGD(1.0)
        assert load_config(WithChoice, ["--config", toml("[optimizer]\nmomentum = 0.25")]).optimizer == SGD(0.5, 0.25)
        for text, problem in (
            ("[optimizer]\nrate = 1", '`optimizer` fits `Adam` and `SGD`: choose one, as in `class = "Adam"`'),
            ('[optimizer]\nclass = "Lion"', "`optimizer` must be a table (`Adam`) or a table (`SGD`), not"),
            ('[second]\nclass = "Adam"', '`second.class` must be `SGD`, not "Adam"'),
            ('[optimizer]\nclass = "Adam"\nmomentum = 1', "`optimizer.momentum` is unknown"),
        ):
            assert problem in usage_error(capsys, WithChoice, "--config", toml(text))

    @pytest.mark.parametrize(
        ("now", "line"),
        [
            (WithChoice(SGD()), "optimizer was {'class': 'Adam', 'rate': 0.5}, is {'class': 'SGD', "),
            (WithChoice(Adam(0.1)), "optimizer.rate was 0.5, is 0.1"),
            (WithChoice(averaged=(SGD(),)), "averaged was [], is [{'class': 'SGD', "),
            (WithChoice(second=SGD()), "second was None, is {'rate': 0.5, "),
        ],
    )
    def test_another_class_or_value_is_a_change(self, now: WithChoice, line: str) -> None:
        may, may_not = compare_settings(WithChoice, config_to_dict(now), config_to_dict(WithChoice()))
        assert may == []
        assert [each.startswith(line) for each in may_not] == [True]

    def test_a_subclass_in_its_place_is_a_change(self) -> None:
        tables = [config_to_dict(WithChoice(second=second)) for second in (Nesterov(), SGD())]
        plain = {"rate": 0.5, "momentum": 0.9}
        assert compare_settings(WithChoice, *tables) == (
            [],
            [f"second was {plain}, is { {'class': 'Nesterov'} | plain}"],
        )

    def test_a_class_and_its_subclass_may_be_the_choices(self) -> None:
        config = make_dataclass("Config", [("optimizer", SGD | Nesterov)])
        for optimizer in (SGD(0.1), Nesterov(0.1)):
            found = config_from_dict(config, config_to_dict(config(optimizer)))
            assert repr(found) == repr(config(optimizer))


@dataclass
class WithDicts:
    loss_weights: dict[str, float] = field(default_factory=lambda: {"box": 1.0})
    folders: dict[str, Path] = field(default_factory=dict)
    optimizers: dict[str, Adam | SGD] = field(default_factory=dict)
    nested: dict[str, dict[str, int]] = field(default_factory=dict)
    maybe: dict[str, float] | None = None


class TestDicts:
    def test_they_are_tables_in_a_file(self, toml: Any, capsys: pytest.CaptureFixture[str]) -> None:
        text = "nested = {a = {b = 1}}\n[loss_weights]\nmask = 2\n[folders]\ncoco = 'd/coco'\n[maybe]\nx = 0.5\n"
        text += "[optimizers.model]\nclass = 'SGD'\nmomentum = 0.0"
        assert load_config(WithDicts, ["--config", toml(text)]) == WithDicts(
            {"mask": 2.0}, {"coco": Path("d/coco")}, {"model": SGD(0.5, 0.0)}, {"a": {"b": 1}}, {"x": 0.5}
        )
        message = usage_error(capsys, WithDicts, "--config", toml("[loss_weights]\nmask = 'x'\nbox = true"))
        assert (
            '  `loss_weights.mask` must be a number, not "x"\n  `loss_weights.box` must be a number, not true'
            in message
        )
        assert "`loss_weights` must be a table, not 3" in usage_error(
            capsys, WithDicts, "--config", toml("loss_weights = 3")
        )

    def test_they_are_on_the_command_line(self, toml: Any) -> None:
        assert load_config(WithDicts, ["--loss-weights.box", "3"]).loss_weights == {"box": 3.0}
        assert load_config(WithDicts, ["--folders", "a", "x", "b", "y"]).folders == {"a": Path("x"), "b": Path("y")}
        file = toml("[loss_weights]\nbox = 2\nmask = 2")
        found = load_config(WithDicts, ["--config", file, "--loss-weights.mask", "5"])
        assert found.loss_weights == {"box": 2.0, "mask": 5.0}

    def test_they_go_to_json_and_back(self) -> None:
        config = WithDicts({"b": math.inf, "a": 1.0}, {"x": Path("y")}, {"m": SGD(), "n": Adam()}, {"a": {}}, {})
        plain = json.loads(json.dumps(config_to_dict(config), allow_nan=False))
        assert repr(config_from_dict(WithDicts, plain)) == repr(config)

    def test_a_key_that_is_no_text_is_named(self) -> None:
        with pytest.raises(ConfigError, match="`loss_weights` has the key 3, which is not text"):
            config_to_dict(WithDicts({3: 1.0}))  # type: ignore[dict-item]

    def test_another_value_is_a_change(self) -> None:
        tables = [config_to_dict(WithDicts({"box": weight})) for weight in (2.0, 1.0)]
        assert compare_settings(WithDicts, *tables)[1] == ["loss_weights was {'box': 1.0}, is {'box': 2.0}"]


@dataclass
class Paths:
    data: Path = Path("~/data")
    more: tuple[Path, ...] = ()
    named: dict[str, Path] = field(default_factory=dict)
    other: Path | None = None
    text: str = "~"


@pytest.mark.slow
def test_the_home_folder_is_expanded_wherever_a_path_comes_from(toml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    file = toml("more = ['~/a', 'b/~']\nnamed = {x = '~/x'}")
    assert load_config(Paths, ["--config", file, "--other=~/o"]) == Paths(
        Path("/home/me/data"),
        (Path("/home/me/a"), Path("b/~")),
        {"x": Path("/home/me/x")},
        Path("/home/me/o"),
        "~",
    )


def test_numbers_of_numpy_are_numbers() -> None:
    config = make_dataclass("Config", [(name, Any) for name in ("width", "rate", "top", "rates")])
    plain = config_to_dict(config(np.int64(3), np.float32(0.5), np.float64("inf"), (np.float64(0.25),)))
    assert plain == {"width": 3, "rate": 0.5, "top": "inf", "rates": [0.25]}
    assert [type(value) for value in plain.values()] == [int, float, str, list]
