"""How a run ends on an error that its reader can mend: one message, exit code 1, nothing left behind."""

import json
import sys
from pathlib import Path

import pytest
from support.tiny_train import Config

from paccel.runtime import Checkpoints, ConfigError, DataError, Run, messages
from paccel.runtime.errors import AgreementError

MESSAGE = "error: `data` is wrong on purpose:\n"


def test_wrong_data_is_a_message_without_a_traceback_or_a_run_directory(start, tmp_path: Path) -> None:
    done = start(tmp_path / "run", fault="mend@data:0:0")
    assert (done.returncode, done.stderr) == (1, f"{MESSAGE}mend it\n")
    assert not list(tmp_path.glob("run*"))


@pytest.mark.parametrize("where", ["all", "0", "1"])
def test_wrong_data_on_some_of_two_processes_ends_both_with_one_message(start, tmp_path: Path, where: str) -> None:
    done = start(tmp_path / "run", processes=2, fault=f"mend@data:0:{where}", timeout=60)
    assert done.returncode == 1
    assert done.stderr.count(MESSAGE) == 1
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("error: another process exited") == 1
    assert not list(tmp_path.glob("run*"))


def test_a_mistake_in_the_code_shows_where_it_is_and_its_run_says_failed(start, tmp_path: Path) -> None:
    done = start(tmp_path / "run", fault="raise@data:0:0")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ArithmeticError: broken on purpose" in done.stderr
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


def test_a_run_that_had_begun_is_kept_whatever_it_fails_of(start, tmp_path: Path) -> None:
    done = start(tmp_path / "run", fault="mend@step:3:0")
    assert (done.returncode, done.stderr) == (1, f"{MESSAGE}mend it\n")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["step"]) == ("failed", 3)
    before = sorted(path for path in (tmp_path / "run").rglob("*"))
    start(tmp_path / "run", fault="mend@data:0:0", resume="auto")
    assert sorted(path for path in (tmp_path / "run").rglob("*")) == before


def test_what_lay_in_the_directory_before_stays(tmp_path: Path) -> None:
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


def test_all_other_errors_go_to_whoever_showed_them_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[object] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: shown.append(error))
    messages.end_with_messages()
    messages.end_with_messages()  # the second call changes nothing
    waited: list[float] = []
    monkeypatch.setattr(messages.time, "sleep", waited.append)
    monkeypatch.setenv("LOCAL_RANK", "1")  # what the first of the host says as well, it says first
    bug = TypeError("a bug")
    for error in (DataError("no data"), AgreementError("another process failed"), bug):
        sys.excepthook(type(error), error, None)
    assert shown == [bug]
    assert waited == [1, 1]
    assert capsys.readouterr().err == "error: no data\nerror: another process failed\n"
