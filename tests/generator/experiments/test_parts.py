"""The parts of `verify` and `repeat`, without training: spans, grids, settings and tensors."""

import hashlib
import json
import struct
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support.run_folders import write_run

from paccel.errors import PreconditionError, UsageError
from paccel.experiments.repeat import make_jobs, parse_grid, parse_seeds, run_jobs
from paccel.experiments.start import settings_file
from paccel.experiments.tensors import compare_checkpoints
from paccel.experiments.verify import choose_span, verify_run
from paccel.runs.folder import read_run


def make_run(folder: Path, saved: list[int], logged: list[int]) -> Path:
    for step in saved:
        (folder / "checkpoints" / f"step-{step}").mkdir(parents=True)
        (folder / "checkpoints" / f"step-{step}" / "manifest.json").write_text("{}")
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"step": s, "train/loss": 1.0}) + "\n" for s in logged))
    return folder


@pytest.mark.parametrize(
    ("saved", "logged", "steps", "expected"),
    [
        ([40, 60], [20, 40, 60], None, (40, 60, True)),
        ([60], [20, 40, 60], None, (0, 60, True)),
        ([], [20, 40], None, (0, 40, False)),
        ([40, 60], [20, 40, 60, 80], 20, (40, 60, True)),
        ([60], [20, 40, 60, 80], 20, (60, 80, False)),
        ([60], [20, 40, 60], 45, (0, 40, False)),
        ([20, 40, 60], [], 100, (0, 60, True)),
    ],
)
def test_the_steps_to_replay(
    tmp_path: Path, saved: list[int], logged: list[int], steps: int | None, expected: tuple[int, int, bool]
) -> None:
    assert choose_span(read_run(make_run(tmp_path, saved, logged)), steps) == expected


def test_steps_in_which_nothing_was_recorded_are_refused(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path, [40, 60], [60]))
    with pytest.raises(UsageError, match="use at least `--steps 20`"):
        choose_span(run, 5)
    with pytest.raises(UsageError, match="must be at least 1"):
        choose_span(run, 0)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(PreconditionError, match="neither a checkpoint nor metrics"):
        choose_span(read_run(make_run(empty, [], [])), None)


def test_settings_come_back_from_the_file() -> None:
    settings: dict[str, Any] = {
        "a": None,
        "b": 1e-3,
        "c": [1, 'x\n"é\x7f'],
        "d": {"class": "SGD", "a b": True},
        "e": "inf",
    }
    assert tomllib.loads(settings_file(settings)) == settings | {"a": "None"}


def test_seeds() -> None:
    assert parse_seeds("3", 7) == [7, 8, 9]
    assert parse_seeds("4,2", 7) == [4, 2]
    for wrong in ("x", "0", "1,1", "-2", ","):
        with pytest.raises(UsageError, match="--seeds"):
            parse_seeds(wrong, 0)


def test_a_grid_has_values_of_the_settings_kind() -> None:
    settings = {"lr": 0.1, "width": None, "name": "a", "betas": [0.9, 0.99], "ema": False}
    given = ("lr=1,3e-3", "width=None,4", "name=b,1", "betas=[0.8,0.9],[0.9,0.95]", "ema=True,false")
    assert parse_grid(given, settings) == {
        "lr": [1.0, 3e-3],
        "width": [None, 4],
        "name": ["b", "1"],
        "betas": [[0.8, 0.9], [0.9, 0.95]],
        "ema": [True, False],
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("lr", "no value"),
        ("lr=", "no value"),
        ("lr=0.1,", "an empty value"),
        ("lr=fast", "`--set lr=fast`: `lr` must be a number"),
        ("lr=true", "must be a number"),
        ("ema=1", "must be `True` or `False`"),
        ("lr=1e-3,0.001", "has `0.001` twice"),
        ("lrr=1", "did you mean `lr`"),
        ("run_dir=x", "no setting"),
        ("=1", "no setting"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_before_anything_runs(given: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_grid([given], {"lr": 0.1, "ema": False, "run_dir": "x"})


def test_a_folder_of_runs_with_other_settings_is_not_taken_for_these(tmp_path: Path) -> None:
    like = read_run(write_run(tmp_path / "a", learning_rate=0.1, seed=0, num_workers=0))
    for seed in range(2):  # finished, with other workers, which changes nothing
        write_run(tmp_path / "into" / f"seed={seed}", learning_rate=0.1, seed=seed, num_workers=4)
    jobs = make_jobs(like, tmp_path, [0, 1], {}, tmp_path / "into")
    assert [outcome.state for outcome in run_jobs(jobs, like)] == ["finished", "finished"]
    changed = [job._replace(settings={**job.settings, "learning_rate": 0.2}) for job in jobs]
    with pytest.raises(
        PreconditionError, match=r"has a run with other settings \(learning_rate 0.1, now 0.2\): pass another"
    ):
        run_jobs(changed, like)


def test_runs_that_are_finished_with_other_code_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("x = 2")
    code = {"program": "train.py", "files": {"train.py": hashlib.sha256(b"x = 1").hexdigest()}}
    like = read_run(write_run(tmp_path / "a", seed=0, config={"code": code}))
    write_run(tmp_path / "into" / "seed=0", seed=0, config={"code": code})
    said: list[str] = []
    run_jobs(make_jobs(like, tmp_path, [0], {}, tmp_path / "into"), like, tell=said.append)
    assert said == ["seed=0: finished already, with different code (train.py)"]


def write_checkpoint(folder: Path, values: list[float], dtype: str = "F32", state: Any = 1) -> Path:
    folder.mkdir()
    content = struct.pack(f"<{len(values)}{'f' if dtype == 'F32' else 'e'}", *values)
    header = json.dumps({"w": {"dtype": dtype, "shape": [len(values)], "data_offsets": [0, len(content)]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + content)
    (folder / "state.json").write_text(json.dumps({"run": {"position": {"step": state}}}))
    return folder


def test_the_first_tensor_that_differs_is_named_with_how_much(tmp_path: Path) -> None:
    one = write_checkpoint(tmp_path / "a", [1.0, 2.0, 3.0])
    assert compare_checkpoints(one, write_checkpoint(tmp_path / "b", [1.0, 2.0, 3.0])) == (1, 12, None)
    other = compare_checkpoints(one, write_checkpoint(tmp_path / "c", [1.0, 2.5, 3.25]))
    assert other.difference == "`w` of `model`: 2 of 3 values differ, by 0.5 at most"
    half = compare_checkpoints(one, write_checkpoint(tmp_path / "d", [1.0], "F16"))
    assert half.difference == "`w` of `model` is F32 [3], and F16 [1] in the replay"
    state = compare_checkpoints(one, write_checkpoint(tmp_path / "e", [1.0, 2.0, 3.0], state=2))
    assert state.difference == "`run.position.step` of the state is 1, and 2 in the replay"


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    one, two = write_checkpoint(tmp_path / "a", [1.0]), write_checkpoint(tmp_path / "b", [1.0])
    (two / "model.safetensors").write_bytes(b"\xff" * 9)
    with pytest.raises(PreconditionError, match="cannot be compared"):
        compare_checkpoints(one, two)


@pytest.mark.slow
def test_other_data_is_a_cause_also_beside_changed_code_of_that_name(work: Path) -> None:
    said = "error: The data of `run.loader` differs from that of the checkpoint: 5 samples, now 4. Put it back, or go"
    (work / "train.py").write_text(f"import sys; sys.exit({said!r})\n")
    (work / "data.py").write_text("new")
    files = {name: hashlib.sha256(text).hexdigest() for name, text in (("train.py", b""), ("data.py", b"old"))}
    run = write_run(work / "runs" / "a", seed=0, commit=None, config={"code": {"program": "train.py", "files": files}})
    found = verify_run(run)
    assert (found.is_verified, found.step) == (False, 1)
    assert found.causes == ("the code: data.py, train.py", "the data: 5 samples, now 4")
