"""Which run is resumed, with which settings, and the lines printed about it."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.quick import quick_first
from support.tiny_train import Config as TinyConfig
from torch import nn

from paccel.runtime import Checkpoints, ConfigError, Run
from paccel.runtime.record import run_dirs
from paccel.runtime.record.process import machine, start_time
from paccel.runtime.record.record import Record
from paccel.runtime.record.run_dirs import choose_run_dir


@dataclass
class Config:
    """Fields that a run reads, and a custom one."""

    run_dir: Path
    resume: str = "never"
    seed: int | None = 0
    precision: str = "auto"
    accumulate: int = 1
    eval_batch_size: int = 8
    width: int = 2


@dataclass
class Later(Config):
    smoothing: float = 0.0


def run_to(config: Any, step: int) -> Run:
    """A run that trained up to a step, saved there, and failed."""
    with pytest.raises(ZeroDivisionError), Run(config) as run:
        checkpoints = Checkpoints(run, model=nn.Linear(1, 1))
        checkpoints.restore()
        run.position.step = step
        checkpoints.save()
        raise ZeroDivisionError
    return run


def write_status(run_dir: Path, **status: Any) -> None:
    """Make the parent of this process the writer of a run."""
    parent = os.getppid()
    own = {"state": "running", "process": parent, "process_began": start_time(parent), "machine": machine()}
    (run_dir / "status.json").write_text(json.dumps(own | {"started": 9.0} | status))


class TestARunOfAnotherProcess:
    def test_auto_takes_the_next_run_and_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name, state in (("older", "failed"), ("newer", "running")):
            run_to(Config(Path("runs") / name), 1)
            write_status(Path("runs") / name, state=state, started=1.0 + (name == "newer"))
        capsys.readouterr()
        assert choose_run_dir(None, "auto").run_dir == Path("runs/older")
        assert capsys.readouterr().out == (
            f"`runs/newer` is being written by process {os.getppid()}, which is still running: "
            "looking for another run to continue\n"
        )

    @pytest.mark.parametrize("resume", ["auto", "never"])
    def test_a_run_in_use_is_refused(self, tmp_path: Path, resume: str) -> None:
        write_status(tmp_path)
        with pytest.raises(
            ConfigError, match=r"is being written by process \d+, which is still running: stop it first"
        ):
            Run(Config(tmp_path, resume))

    @pytest.mark.parametrize("resume", quick_first(["auto", "never"]))
    def test_a_run_that_another_process_takes_first_is_refused_too(
        self, tmp_path: Path, resume: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_dir = tmp_path / "run"
        if resume == "auto":
            run_to(Config(run_dir), 1)
        look = run_dirs.writer_of

        def look_and_lose(*args: Any) -> str | None:
            monkeypatch.setattr(run_dirs, "writer_of", look)
            found = look(*args)
            run_dir.mkdir(exist_ok=True)
            write_status(run_dir)  # after this process has looked, and before it claims the run
            return found

        monkeypatch.setattr(run_dirs, "writer_of", look_and_lose)
        with pytest.raises(ConfigError, match="is being written by process"):
            Run(Config(run_dir, resume))
        assert json.loads((run_dir / "status.json").read_text())["process"] == os.getppid()


class TestSettings:
    def test_those_that_may_change_are_named_in_a_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = Config(tmp_path / "run")
        run_to(config, 1)
        capsys.readouterr()
        run_to(Later(config.run_dir, "auto", accumulate=4, eval_batch_size=2), 2)
        assert capsys.readouterr().out.splitlines()[0] == (
            "changed since the start: accumulate was 1, is 4; eval_batch_size was 8, is 2; smoothing is new: 0.0"
        )
        run_to(Config(config.run_dir, "auto", accumulate=4, eval_batch_size=2), 3)  # back to before the new field
        assert capsys.readouterr().out.splitlines()[0] == "changed since the start: smoothing was removed (was 0.0)"
        run_to(Config(config.run_dir, "auto", accumulate=4, eval_batch_size=2), 4)
        assert "continuing" not in capsys.readouterr().out

    def test_versions_device_and_processes_that_differ_are_named_in_the_same_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = Config(tmp_path / "run")
        run_to(config, 1)
        path = config.run_dir / "config.json"
        start = json.loads(path.read_text())
        now = start["versions"]["torch"]
        start |= {"device": "cuda", "num_processes": 8, "versions": start["versions"] | {"torch": "1.0", "other": "2"}}
        path.write_text(json.dumps(start))
        capsys.readouterr()
        run_to(replace(config, resume="auto"), 2)
        assert capsys.readouterr().out.splitlines()[0] == (
            "changed since the start: num_processes was 8, is 1; device was 'cuda', is 'cpu'; "
            f"torch was '1.0', is '{now}'"
        )
        del start["versions"], start["device"]  # of an earlier release, or of another's making
        path.write_text(json.dumps(start))
        run_to(replace(config, resume="auto"), 3)
        assert capsys.readouterr().out.splitlines()[0] == "changed since the start: num_processes was 8, is 1"

    def test_those_that_may_not_change_are_an_error_that_offers_a_new_run(self, tmp_path: Path) -> None:
        config = Config(tmp_path / "run")
        run_to(config, 3)
        before = (config.run_dir / "config.json").read_bytes()
        with pytest.raises(ConfigError) as caught:
            Run(replace(config, resume="auto", width=3, seed=1))
        checkpoint = config.run_dir / "checkpoints" / "step-3"
        assert str(caught.value).splitlines() == [
            f"`{config.run_dir}` was started with other settings:",
            "  seed was 0, is 1",
            "  width was 2, is 3",
            "Pass the same settings to continue it, or start a new run from its checkpoint with "
            f"`--resume {checkpoint} --run-dir NEW`",
        ]
        assert (config.run_dir / "config.json").read_bytes() == before
        run_to(Config(tmp_path / "new", str(checkpoint), width=3), 4)  # the way that it names

    def test_a_new_setting_with_another_value_is_refused(self, tmp_path: Path) -> None:
        run_to(Config(tmp_path / "run"), 1)
        with pytest.raises(ConfigError, match=r"other settings:\n  smoothing is new: 0.1\n"):
            Run(Later(tmp_path / "run", "auto", smoothing=0.1))

    def test_a_precision_that_is_the_same_by_another_name_may_change(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_to(Config(tmp_path / "run", precision="auto"), 1)  # fp32 on a CPU
        run_to(Config(tmp_path / "run", "auto", precision="fp32"), 2)
        assert "changed since the start: precision was 'auto', is 'fp32'\n" in capsys.readouterr().out
        with pytest.raises(ConfigError, match="precision was 'fp32', is 'bf16'"):
            Run(Config(tmp_path / "run", "auto", precision="bf16"))

    def test_a_run_on_other_processes_says_so(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run_to(Config(tmp_path / "run"), 1)
        path = tmp_path / "run" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"num_processes": 4}))
        run_to(Config(tmp_path / "run", "auto"), 2)
        assert "changed since the start: num_processes was 4, is 1\n" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("cut", [{"accumulate": 4}, {"num_workers": 1, "eval_every": 2}])
def test_a_step_that_is_cut_differently_after_a_resume_has_the_same_samples_and_weights(
    start, metrics, tmp_path: Path, cut: dict[str, Any]
) -> None:
    start(tmp_path / "straight")
    assert start(tmp_path / "run", fault="kill:5:0").returncode
    done = start(tmp_path / "run", resume="auto", **cut)
    assert done.returncode == 0
    for name, value in cut.items():
        assert f"{name} was {getattr(TinyConfig, name)}, is {value}" in done.stdout.splitlines()[0]
    weights, straight = (load_file(tmp_path / name / "weights" / "final.safetensors") for name in ("run", "straight"))
    for name, tensor in straight.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-12, atol=1e-12)
    losses, others = (
        [line["train/loss"] for line in metrics(tmp_path / name) if "train/loss" in line]
        for name in ("run", "straight")
    )
    assert losses == pytest.approx(others, rel=1e-12)


class TestASeedOfNone:
    def test_it_is_drawn_saved_and_printed(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        runs = [run_to(Config(tmp_path / name, seed=None), 1) for name in ("a", "b")]
        assert runs[0].seed != runs[1].seed
        assert f", seed {runs[0].seed}, in " in capsys.readouterr().out
        assert json.loads((tmp_path / "a" / "config.json").read_text())["settings"]["seed"] == runs[0].seed
        assert run_to(Config(tmp_path / "a", "auto", seed=None), 2).seed == runs[0].seed
        assert run_to(Config(tmp_path / "a", "auto", seed=runs[0].seed), 3).seed == runs[0].seed
        with pytest.raises(ConfigError, match=f"seed was {runs[0].seed}, is {runs[1].seed}"):
            Run(Config(tmp_path / "a", "auto", seed=runs[1].seed))

    def test_a_new_run_from_a_checkpoint_draws_another(self, tmp_path: Path) -> None:
        first = run_to(Config(tmp_path / "a", seed=None), 1)
        fork = run_to(Config(tmp_path / "b", str(tmp_path / "a" / "checkpoints" / "step-1"), seed=None), 2)
        assert fork.seed != first.seed

    def test_an_evaluation_has_one_without_a_record(self, tmp_path: Path) -> None:
        with Run(Config(tmp_path / "run", seed=None), record=False) as run:
            assert isinstance(run.seed, int)


class TestTheFilesOfARun:
    def test_a_run_without_its_settings_is_not_resumed(self, tmp_path: Path) -> None:
        run_to(Config(tmp_path / "run"), 1)
        (tmp_path / "run" / "config.json").unlink()
        with pytest.raises(ConfigError, match=r"`.*run` has no `config.json`.*`--resume CHECKPOINT --run-dir NEW`"):
            Run(Config(tmp_path / "run", "auto"))
        assert not (tmp_path / "run" / "config.json").exists()

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"settings": 3}'])
    def test_a_run_with_damaged_settings_is_not_resumed(self, tmp_path: Path, content: bytes) -> None:
        run_to(Config(tmp_path / "run"), 1)
        (tmp_path / "run" / "config.json").write_bytes(content)
        with pytest.raises(ConfigError, match=r"`.*config.json` is damaged.*`--resume CHECKPOINT --run-dir NEW`"):
            Run(Config(tmp_path / "run", "auto"))
        assert (tmp_path / "run" / "config.json").read_bytes() == content

    def test_a_run_that_was_killed_while_it_opened_its_folder_starts_over(self, tmp_path: Path) -> None:
        assert Record(tmp_path).claim({})
        run_to(Config(tmp_path, "auto"), 1)

    def test_a_run_directory_may_be_moved(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run_to(Config(tmp_path / "run"), 1)
        (tmp_path / "run").rename(tmp_path / "moved")
        for step, config in ((2, Config(tmp_path / "moved", "auto")), (3, Config(None, str(tmp_path / "moved")))):  # type: ignore[arg-type]
            assert run_to(config, step).run_dir == tmp_path / "moved"
        out = capsys.readouterr().out
        assert f"resuming at step 2, epoch 0, from {tmp_path / 'moved'}" in out
        assert "changed since the start:" not in out
        assert not (tmp_path / "run").exists()
