"""Spans, grids, settings and tensors: what `verify` and `repeat` are made of, without training."""

import json
import struct
import tomllib
from pathlib import Path
from typing import Any

import pytest

from paccel.errors import PreconditionError, UsageError
from paccel.experiments.repeat import parse_grid, parse_seeds
from paccel.experiments.start import settings_file
from paccel.experiments.tensors import compare_checkpoints
from paccel.experiments.verify import choose_span
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
    with pytest.raises(UsageError, match="`--steps 20` is the least"):
        choose_span(run, 5)
    with pytest.raises(UsageError, match="at least one"):
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
    for wrong, said in (("lr", "no value"), ("lrr=1", "did you mean `lr`"), ("run_dir=x", "no setting")):
        with pytest.raises(UsageError, match=said):
            parse_grid([wrong], settings)


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
