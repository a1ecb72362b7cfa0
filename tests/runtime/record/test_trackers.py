"""Trackers, through accelerate: what they are given, and that one that fails ends no run."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from paccel.runtime import Run


@dataclass
class Config:
    """What a run with trackers reads."""

    run_dir: Path
    trackers: tuple[str, ...]
    seed: int = 0


def test_tensorboard_gets_what_is_logged_and_a_tracker_that_fails_does_not_end_the_run(
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
    assert "tracker `tensorboard` failed, the run goes on without it: ZeroDivisionError" in capsys.readouterr().err
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3


class Mine(GeneralTracker):
    """A custom tracker that keeps what is logged."""

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
def test_of_several_trackers_one_that_fails_leaves_the_others(
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
