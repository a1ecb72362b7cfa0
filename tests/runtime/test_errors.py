"""How a run ends on an error that the user can fix: one message, exit code 1, no files left."""

import json
import sys
from pathlib import Path

import pytest
from support.tiny_train import Config

from paccel.runtime import Checkpoints, ConfigError, DataError, Run, Stopped, errors, exit_with_message, load_config
from paccel.runtime.errors import AgreementError

MESSAGE = "error: `data` is wrong on purpose:\n"


@pytest.mark.slow
def test_wrong_data_is_a_message_without_a_traceback_or_a_run_directory(start, tmp_path: Path) -> None:
    done = start(tmp_path / "run", fault="mend@data:0:0")
    assert (done.returncode, done.stderr) == (1, f"{MESSAGE}mend it\n")
    assert not list(tmp_path.glob("run*"))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["all", "0", "1"])
def test_wrong_data_on_some_of_two_processes_ends_both_with_one_message(start, tmp_path: Path, where: str) -> None:
    done = start(tmp_path / "run", processes=2, fault=f"mend@data:0:{where}", timeout=60)
    assert done.returncode == 1
    assert done.stderr.count(MESSAGE) == 1
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("error: another process exited") == 1
    assert not list(tmp_path.glob("run*"))


@pytest.mark.slow
def test_a_mistake_in_the_code_shows_where_it_is_and_its_run_says_failed(start, tmp_path: Path) -> None:
    done = start(tmp_path / "run", fault="raise@data:0:0")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ArithmeticError: broken on purpose" in done.stderr
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


@pytest.mark.slow
def test_a_run_that_had_started_is_kept_whatever_error_ends_it(start, tmp_path: Path) -> None:
    done = start(tmp_path / "run", fault="mend@step:3:0")
    assert (done.returncode, done.stderr) == (1, f"{MESSAGE}mend it\n")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["step"]) == ("failed", 3)
    before = sorted(path for path in (tmp_path / "run").rglob("*"))
    start(tmp_path / "run", fault="mend@data:0:0", resume="auto")
    assert sorted(path for path in (tmp_path / "run").rglob("*")) == before


def test_files_that_were_in_the_directory_before_stay(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(DataError), Run(Config(run_dir=tmp_path / "run")):
        raise DataError("no data")
    assert (tmp_path / "run" / "mine.txt").read_text() == "mine"


def test_the_folder_of_all_runs_goes_only_if_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for other in (None, "runs/other/status.json"):
        if other is not None:
            Path(other).parent.mkdir(parents=True)
            Path(other).write_text("{}")
        with pytest.raises(ConfigError), Run(Config(run_dir=None)) as run:  # type: ignore[arg-type]
            Checkpoints(run, nothing=object())
        assert [str(path) for path in Path().rglob("*.json")] == ([] if other is None else [other])
        assert Path("runs").exists() == (other is not None)


def end_with(error: BaseException) -> None:
    with exit_with_message():
        raise error


def test_a_mendable_error_ends_a_script_with_its_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(errors.time, "sleep", waited.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")  # the first process of a host prints first
    for error in (DataError("no data"), AgreementError("another process failed")):
        with pytest.raises(SystemExit) as ended:
            end_with(error)
        assert ended.value.code == 1
    with pytest.raises(SystemExit):
        end_with(RuntimeError("Connection closed by peer [127.0.0.1]"))
    assert waited == [1, 1]
    said = ["no data", "another process failed", "another process exited; its error is above"]
    assert capsys.readouterr().err.splitlines() == [f"error: {line}" for line in said]


@pytest.mark.parametrize("error", [TypeError("a bug"), RuntimeError("a bug"), KeyboardInterrupt(), Stopped("SIGTERM")])
def test_other_errors_pass_through(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(type(error)) as raised:
        end_with(error)
    assert raised.value is error
    assert capsys.readouterr().err == ""


def test_a_script_without_it_ends_the_same_once_there_is_a_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown: list[object] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: shown.append(error))
    before = sys.excepthook
    load_config(Config, [f"--run-dir={tmp_path}"])
    assert sys.excepthook is before, "reading settings changes nothing of the process"
    for _ in range(2):  # the second run changes nothing
        with Run(Config(tmp_path), record=False):
            pass
    bug = TypeError("a bug")
    for error in (DataError("no data"), bug):
        sys.excepthook(type(error), error, None)
    assert shown == [bug]
    assert capsys.readouterr().err == "error: no data\n"


def test_names_are_quoted_and_beyond_the_limit_counted() -> None:
    assert errors.quoted(["a", "b"]) == "`a`, `b`"
    assert errors.quoted("abcde", 3) == "`a`, `b`, `c` and 2 more"
    assert errors.quoted([]) == ""
