"""Weights in several files: `transformers` reads them, a crash leaves a complete set, files of other tools are read."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.points import Points
from support.quick import quick_first
from torch import nn

from paccel.runtime import CheckpointError, Checkpoints, ConfigError, Run, load_weights
from paccel.runtime.loading import load_run
from paccel.runtime.storage.weights import find_weights, remove_weights, write_weights

INDEX = "model.safetensors.index.json"


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path
    resume: str = "never"


def network(seed: int = 0, width: int = 30) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(width, width), nn.Linear(width, width), nn.BatchNorm1d(width), nn.Linear(width, width)
    )
    model[3].weight = model[0].weight
    return model


def equal(model: nn.Module, other: nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_large_weights_are_split_into_files_of_limited_size_with_an_index(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "final.safetensors"
    write_weights(path, model, {"step": "7"}, max_shard_size=4000)
    assert [file.name for file in tmp_path.iterdir()] == ["final"]
    files = sorted((tmp_path / "final").glob("*.safetensors"))
    assert [file.name for file in files] == [f"model-0000{n}-7-of-00003.safetensors" for n in (1, 2, 3)]
    index = json.loads((tmp_path / "final" / INDEX).read_text())
    tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert {name: (tmp_path / "final" / file).exists() for name, file in index["weight_map"].items()} == dict.fromkeys(
        tensors, True
    )
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    assert all(sum(tensor.nbytes for tensor in load_file(file).values()) <= 4000 for file in files)
    for place in (path, tmp_path / "final", tmp_path / "final" / INDEX):
        other = network(1)
        assert load_weights(place, other) == []
        assert equal(model, other)
        assert other[3].weight is other[0].weight


def test_a_flipped_bit_in_one_of_several_files_is_detected(tmp_path: Path) -> None:
    write_weights(tmp_path / "final.safetensors", network(), max_shard_size=4000)
    file = sorted((tmp_path / "final").glob("*.safetensors"))[1]
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"`.*{file.name}` was damaged or changed after it was written"):
        load_weights(tmp_path / "final", network())
    file.unlink()
    with pytest.raises(CheckpointError, match=f"{file.name}`? cannot be read|There is no|No such file"):
        load_weights(tmp_path / "final", network())


@pytest.mark.parametrize("before", [4000, 10**9])
@pytest.mark.parametrize("after", quick_first([4000, 10**9]))
def test_cut_off_at_any_write_there_are_the_weights_of_before_or_those_of_now(
    tmp_path: Path, before: int, after: int
) -> None:
    class Cut(Exception):
        """Like a kill: no clean-up that a reader would notice runs."""

    def cut(at: int) -> Callable[[int], None]:
        def act(number: int) -> None:
            if number == at:
                raise Cut

        return act

    old, new, is_done = network(1), network(2), False
    for at in range(1, 100):
        path = tmp_path / str(at) / "best.safetensors"
        write_weights(path, old, {"step": "1"}, max_shard_size=before)
        points = Points(cut(at))
        try:
            with points:
                write_weights(path, new, {"step": "2"}, max_shard_size=after)
            is_done = True
        except Cut:
            pass
        found = network(0)
        load_weights(path, found)
        assert equal(old, found) or equal(new, found), at
        write_weights(path, new, {"step": "2"}, max_shard_size=after)
        load_weights(path, found)
        assert equal(new, found)
        left = [file for file in path.parent.rglob("*") if file.is_file()]
        assert len(left) == (1 if after > 4000 else 4), left  # no older file is left
        if is_done:
            break
    assert is_done
    assert at > 5


def test_a_folder_written_by_another_tool_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = network()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(state)}
    for file in set(names.values()):
        save_file({name: state[name] for name in names if names[name] == file}, tmp_path / file)
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))
    other = network(1)
    load_weights(tmp_path, other)
    assert equal(model, other)
    assert "has no hash of paccel's" in capsys.readouterr().out
    single = tmp_path / "single"
    single.mkdir()
    save_file(state, single / "model.safetensors")
    load_weights(single, other)


@pytest.mark.parametrize(
    ("index", "problem"),
    [
        ("{", "cannot be read"),
        ("{}", "cannot be read"),
        ('{"weight_map": {}}', "names files that are not in its folder"),
        ('{"weight_map": {"a": "../up.safetensors"}}', "names files that are not in its folder"),
        ('{"weight_map": ["a"]}', "cannot be read"),
    ],
)
def test_an_invalid_index_is_an_error_that_names_it(tmp_path: Path, index: str, problem: str) -> None:
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(CheckpointError, match=problem):
        load_weights(tmp_path, network())


def test_a_folder_of_several_models_or_of_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it has 0 indexes and 0 files"):
        find_weights(tmp_path)
    for name in ("best", "final"):
        write_weights(tmp_path / f"{name}.safetensors", network())
    with pytest.raises(CheckpointError, match="it has 0 indexes and 2 files"):
        find_weights(tmp_path)


@pytest.mark.slow
def test_transformers_reads_the_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=50, n_positions=8)
    model = transformers.GPT2LMHeadModel(config)
    write_weights(tmp_path / "final.safetensors", model, max_shard_size=4000)
    assert len(list((tmp_path / "final").glob("*.safetensors"))) > 2
    config.save_pretrained(tmp_path / "final")
    assert equal(model, transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "final"))


def test_best_weights_in_folders_are_kept_and_removed_like_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Run(Config(Path("runs/one"))) as run:
        with pytest.raises(ConfigError, match="`max_shard_size` must be at least 1, not 0"):
            Checkpoints(run, max_shard_size=0, model=nn.Linear(1, 1))
        model = network()
        checkpoints = Checkpoints(run, best="score", keep_best=2, max_shard_size=4000, model=model)
        for step, score in enumerate((3.0, 2.0, 1.0), start=1):
            run.position.step = step
            checkpoints.keep_best({"score": score})
            checkpoints.save()
    weights = Path("runs/one/weights")
    assert sorted(path.name for path in weights.iterdir()) == ["best", "best-2", "best-3"]
    assert len(list((weights / "best").iterdir())) == 4
    with safe_open(next((weights / "best").glob("*.safetensors")), "pt") as file:
        assert file.metadata()["step"] == "3"
    assert load_run(Config)[0] == Path("runs/one")
    remove_weights(weights / "best")
    assert not (weights / "best").exists()
