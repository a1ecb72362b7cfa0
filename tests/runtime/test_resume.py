"""Exact resume: a run killed at any step and resumed ends bit for bit like one that was not."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from support.quick import quick_first
from support.sampled import sampled

FULL: dict[str, Any] = {"data": "augmented", "dropout": 0.2, "accumulate": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs that are trained once for several tests."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def straight(start, trained: Path) -> Path:
    """A run on one process that nothing interrupted; tests only read it."""
    run_dir = trained / "one"
    if not run_dir.exists():
        assert start(run_dir, **FULL).returncode == 0
    return run_dir


@pytest.fixture
def straight_on_two(start, trained: Path) -> Path:
    """The same on two processes, for two epochs."""
    run_dir = trained / "two"
    if not run_dir.exists():
        assert start(run_dir, **FULL, processes=2, epochs=2).returncode == 0
    return run_dir


def final_state(run_dir: Path) -> dict[str, bytes]:
    """The bytes of the weights and of everything in the last checkpoint but its manifest."""
    newest = max((run_dir / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    files = [*(run_dir / "weights").iterdir(), *(p for p in newest.iterdir() if p.name != "manifest.json")]
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.parametrize("kill_at", quick_first(sampled(range(1, 19), 8)))
def test_killed_and_resumed_equals_uninterrupted(start, metrics, straight: Path, tmp_path: Path, kill_at: int) -> None:
    run_dir = tmp_path / "run"
    workers = kill_at % 2 * 2  # killed with and without workers, resumed the other way round
    killed = start(run_dir, **FULL, fault=f"kill:{kill_at}:0", num_workers=workers)
    assert killed.returncode == -signal.SIGKILL
    resumed = start(run_dir, **FULL, resume="auto", num_workers=2 - workers)
    assert resumed.returncode == 0, resumed.stderr

    assert final_state(run_dir) == final_state(straight)
    assert metrics(run_dir) == metrics(straight)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill:5:1", "exit@write:30"])
def test_one_of_two_killed_in_a_step_or_a_save_ends_both_and_resumed_they_end_bit_for_bit_the_same(
    start, metrics, straight_on_two: Path, tmp_path: Path, fault: str
) -> None:
    run_dir = tmp_path / "run"
    assert start(run_dir, **FULL, processes=2, epochs=2, fault=fault, timeout=60).returncode != 0
    resumed = start(run_dir, **FULL, processes=2, epochs=2, resume="auto")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming at step" in resumed.stdout
    assert final_state(run_dir) == final_state(straight_on_two)
    assert metrics(run_dir) == metrics(straight_on_two)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_resumed_on_other_processes_keeps_the_same_samples_in_the_same_steps(
    start, order, tmp_path: Path, before: int, after: int
) -> None:
    assert start(tmp_path / "straight").returncode == 0
    run_dir = tmp_path / "run"
    stopped = start(run_dir, processes=before, fault="SIGTERM:9:0")
    assert json.loads((run_dir / "status.json").read_text())["state"] == "stopped", stopped.stderr
    seen = order(run_dir)
    for path in run_dir.glob("order-*.jsonl"):
        path.unlink()
    resumed = start(run_dir, processes=after, resume="auto")
    assert resumed.returncode == 0, resumed.stderr
    assert seen | order(run_dir) == order(tmp_path / "straight")


@pytest.mark.slow
def test_early_stopping_survives_a_kill(start, metrics, tmp_path: Path) -> None:
    settings = {"patience": 1, "epochs": 40, "eval_every": 3, "learning_rate": 0.5}
    assert start(tmp_path / "straight", **settings).returncode == 0
    last = metrics(tmp_path / "straight")[-1]["step"]
    assert last < 240
    run_dir = tmp_path / "run"
    start(run_dir, **settings, fault=f"kill:{last - 1}:0")
    assert start(run_dir, **settings, resume="auto").returncode == 0
    assert metrics(run_dir) == metrics(tmp_path / "straight")


@pytest.mark.slow
def test_a_fork_from_a_checkpoint_is_a_new_run_with_the_old_one_untouched(
    start, metrics, straight: Path, tmp_path: Path
) -> None:
    first = straight
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    source = first / "checkpoints" / "step-16"
    forked = start(tmp_path / "second", **FULL, resume=source)
    assert forked.returncode == 0, forked.stderr
    assert metrics(tmp_path / "second") == metrics(first)
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_fork_killed_before_its_first_checkpoint_begins_at_the_same_place_again(
    start, metrics, straight: Path, tmp_path: Path
) -> None:
    first, second = straight, tmp_path / "second"
    source = first / "checkpoints" / "step-16"
    assert start(second, **FULL, resume=source, fault="kill:17:0").returncode == -signal.SIGKILL
    assert not (second / "checkpoints").exists()
    resumed = start(second, **FULL, resume="auto")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming at step 16" in resumed.stdout
    assert metrics(second) == metrics(first)
    assert final_state(second) == final_state(first)
    assert json.loads((second / "config.json").read_text())["forked_from"] == str(source)


class TestErrors:
    def test_settings_that_must_not_change_are_listed(self, start, tmp_path: Path) -> None:
        run_dir = tmp_path / "run"
        start(run_dir, fault="kill:5:0")
        resumed = start(run_dir, resume="auto", fault="kill:5:0", global_batch_size=4, seed=9)
        assert resumed.returncode == 1
        assert "global_batch_size was 8, is 4" in resumed.stderr
        assert "seed was 3, is 9" in resumed.stderr

    def test_a_directory_with_a_run_is_not_written_over(self, start, tmp_path: Path) -> None:
        run_dir = tmp_path / "run"
        assert start(run_dir, epochs=1).returncode == 0
        before = (run_dir / "metrics.jsonl").read_bytes()
        again = start(run_dir, epochs=1)
        assert again.returncode == 1
        assert "already holds a run: pass `--resume auto`" in again.stderr
        assert (run_dir / "metrics.jsonl").read_bytes() == before

    def test_a_path_that_holds_nothing_to_resume_is_named(self, start, tmp_path: Path) -> None:
        done = start(tmp_path / "run", resume="nowhere")
        assert "Nothing to resume from at `nowhere`" in done.stderr
        assert not (tmp_path / "run").exists()
