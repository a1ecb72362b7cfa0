"""Trackers, through accelerate: they get the logged values, and one that fails ends no run."""

import math
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType

from paccel.runtime import Run
from paccel.runtime.record import trackers


@dataclass
class Config:
    """Settings of a run with trackers."""

    run_dir: Path
    trackers: tuple[str, ...]
    seed: int = 0
    resume: str = "auto"


@pytest.mark.slow
def test_tensorboard_gets_the_logged_values_and_a_failing_tracker_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Run(Config(run_dir=tmp_path / "run", trackers=("tensorboard",))) as run:
        run.log("eval", loss=0.25)
        tracker = run.accelerator.get_tracker("tensorboard")
        monkeypatch.setattr(type(tracker), "log", lambda *_args, **_options: 1 / 0)
        run.log("eval", loss=0.5)
        run.log("eval", loss=0.75)
    events = next((tmp_path / "run").rglob("events.out.tfevents.*")).parent
    accumulator = EventAccumulator(str(events)).Reload()
    assert [event.value for event in accumulator.Scalars("eval/loss")] == [0.25]
    assert "tracker `tensorboard` failed, training continues without it: ZeroDivisionError" in capsys.readouterr().err
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3


class Mine(GeneralTracker):
    """A custom tracker that keeps the logged values."""

    name = "mine"
    requires_logging_directory = False
    fails_at_start = False
    seen: ClassVar[list[Any]] = []

    def __init__(self, run_name: str, **_options: Any) -> None:
        super().__init__()
        if self.fails_at_start:
            raise ConnectionError("no route to host")

    @property
    def tracker(self) -> Any:
        return self.seen

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.seen.append(values["seed"])

    def log(self, values: dict[str, Any], step: int | None = None, **_options: Any) -> None:
        assert all(map(math.isfinite, values.values())), "not every tracker can draw a NaN"
        self.seen.append((step, values["eval/loss"]))

    def finish(self) -> None:
        self.seen.append("finished")


@pytest.mark.parametrize("fails", ["never", "at the start", "later"])
def test_a_failing_tracker_does_not_affect_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: str
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "mine", Mine)  # what accelerate's `register_tracker_class` does
    monkeypatch.setattr(Mine, "seen", [])
    monkeypatch.setattr(Mine, "fails_at_start", fails == "at the start")
    with Run(Config(run_dir=tmp_path / "run", trackers=("mine", "tensorboard"), seed=4)) as run:
        if fails == "later":
            monkeypatch.setattr(Mine, "log", lambda *_args, **_options: 1 / 0)
        run.log("eval", loss=0.25, odd=float("nan"))
        run.position.step = 7
        run.log("eval", loss=0.5)
    events = next((tmp_path / "run").rglob("events.out.tfevents.*")).parent
    assert [e.value for e in EventAccumulator(str(events)).Reload().Scalars("eval/loss")] == [0.25, 0.5]
    whole = [4, (0, 0.25), (7, 0.5), "finished"]
    assert {"never": whole, "at the start": [], "later": [4]}[fails] == Mine.seen
    assert ("tracker `mine` failed" in capsys.readouterr().err) == (fails != "never")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_without_a_network_writes_to_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    pytest.importorskip(name, exc_type=ImportError)  # also one that does not fit what it needs
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    with Run(Config(run_dir=tmp_path / "run", trackers=(name,))) as run:
        run.log("eval", loss=0.25)
    assert "failed" not in capsys.readouterr().err
    if name == "mlflow":
        assert next((tmp_path / "mlruns").rglob("eval/loss")).read_text().split()[1] == "0.25"
    else:
        assert next(tmp_path.rglob("*.wandb")).stat().st_size > 0


class Trackio:
    """A stand-in for the module `trackio`: the part that accelerate calls."""

    class Started:
        def __init__(self, seen: list[Any], name: str) -> None:
            self.seen, self.name = seen, name

        def log(self, values: dict[str, float], step: int | None = None) -> None:
            self.seen.append((self.name, step, values))

        def finish(self) -> None:
            self.seen.append("finished")

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.started: list[dict[str, Any]] = []
        self.config: Any = self
        self.settings: dict[str, Any] = {}

    def init(self, project: str, **options: Any) -> "Trackio.Started":
        self.started.append({"project": project, **options})
        return self.Started(self.seen, options.get("name", "drawn"))

    def update(self, values: dict[str, Any], **_options: Any) -> None:
        self.settings |= values


@pytest.mark.slow
def test_trackio_resumes_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in = Trackio()
    monkeypatch.setitem(sys.modules, "trackio", stand_in)
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: [LoggerType.TRACKIO])
    monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType.TRACKIO])
    for value in (0.25, 0.5):
        with Run(Config(run_dir=tmp_path / "run", trackers=("trackio",))) as run:
            run.log("eval", loss=value)
    assert "failed" not in capsys.readouterr().err
    project = Path.cwd().name
    assert stand_in.started == [{"project": project}, {"project": project, "name": "drawn", "resume": "allow"}]
    assert stand_in.settings["seed"] == 0
    assert [(name, values["eval/loss"]) for name, _, values in (x for x in stand_in.seen if x != "finished")] == [
        ("drawn", 0.25),
        ("drawn", 0.5),
    ]
    assert stand_in.seen.count("finished") == 2


@pytest.mark.slow
def test_the_real_trackio_stores_the_logged_values(tmp_path: Path) -> None:
    pytest.importorskip("trackio", exc_type=ImportError)
    program = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from paccel.runtime import Run

@dataclass
class Config:
    run_dir: Path = Path("run")
    trackers: tuple[str, ...] = ("trackio",)
    seed: int = 0
    resume: str = "auto"

for value in (0.25, 0.5):
    with Run(Config()) as run:
        run.position.step = int(100 * value)
        run.log("eval", loss=value)
"""
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "kept"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert "failed" not in done.stderr
    with closing(sqlite3.connect(next((tmp_path / "kept").glob("*.db")))) as kept:
        rows = kept.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    assert [step for _, step, _ in rows] == [25, 50]
    assert len({name for name, _, _ in rows}) == 1
