"""Setting up a run: precision, numerics, compilation, a shared disk."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from paccel.runtime import ConfigError, Run
from paccel.runtime.hardware import processes as setup
from paccel.runtime.hardware.agreement import Agreement
from paccel.runtime.record.record import Record
from paccel.runtime.record.run_dirs import choose_run_dir
from paccel.runtime.record.sources import Sources
from paccel.runtime.record.status import read_status

CUDA = torch.device("cuda")
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "ENVIRONMENT")
BATCH = {"ENVIRONMENT": "BATCH", "SLURM_NTASKS": "4"}
SRUN = {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}


@dataclass
class Config:
    """The settings that a run reads."""

    run_dir: Path
    resume: str = "never"
    compile: bool = False
    deterministic: bool = False


@pytest.fixture
def _numerics() -> Iterator[None]:
    """Restores the settings of the whole process."""
    matmul, benchmark = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.benchmark = benchmark


@pytest.mark.parametrize(
    ("wanted", "launched", "has_bf16", "chosen"),
    [
        ("auto", "no", True, "bf16"),
        ("auto", "no", False, "fp16"),
        ("auto", "fp16", True, "fp16"),
        ("auto", "NO", True, "bf16"),
        ("fp32", "bf16", True, "no"),
        ("bf16", "fp16", False, "bf16"),
    ],
)
def test_a_setting_wins_over_the_launcher_and_the_launcher_over_auto(
    monkeypatch: pytest.MonkeyPatch, wanted: str, launched: str, has_bf16: bool, chosen: str
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    assert setup.choose_precision(wanted, CUDA)[0] == chosen


def test_auto_is_full_precision_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    for kind in ("cpu", "mps"):
        assert setup.choose_precision("auto", torch.device(kind)) == ("no", f"full precision on {kind}")


def test_an_accelerator_of_the_script_that_computes_otherwise_is_refused_by_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    try:
        with pytest.raises(ConfigError, match=r"the precision `bf16`, and the run would use `fp32`.*`run.accelerator`"):
            Run(Config(tmp_path / "run"))
        assert not (tmp_path / "run").exists()
    finally:
        accelerator.state._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("_numerics")
def test_deterministic_allows_nothing_else_and_without_it_a_gpu_uses_tf32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "x")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")  # so that it is unset again afterwards
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = True
    with Run(Config(tmp_path / "run", deterministic=True)):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    setup.set_up_numerics(CUDA, deterministic=True)
    assert torch.get_float32_matmul_precision() == "highest"
    setup.set_up_numerics(CUDA, deterministic=False)
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.parametrize("asked", [True, False])
def test_models_are_compiled_in_place_if_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    with Run(Config(tmp_path / "run", compile=asked)) as run:
        model = nn.Linear(1, 1)
        prepared, _ = run.prepare(model, torch.optim.SGD(model.parameters()))
    assert compiled == [model] * asked
    assert list(prepared.state_dict()) == ["weight", "bias"]


class TestWhoHasStartedThisProcess:
    @pytest.fixture(autouse=True)
    def _alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No launcher, no scheduler, and no state of accelerate from earlier tests."""
        for name in list(os.environ):
            if name.startswith(("SLURM_", "OMPI_", "PMI_", "MV2_", "MASTER_")) or name in LAUNCHED:
                monkeypatch.delenv(name)
        monkeypatch.setattr(setup, "PartialState", lambda **options: SimpleNamespace(num_processes=1, options=options))

    def start(self, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Any:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return setup.start_processes()

    @pytest.mark.parametrize(
        ("environment", "who"),
        [
            ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, "`srun` with 2 tasks"),
            ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, "`srun` with 2 tasks"),
            (BATCH | {"SLURM_PROCID": "3"}, "`srun` with 4 tasks"),
            (BATCH | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}, "`srun` with 2 tasks"),
            # An address from a script for other tools, but no ranks
            (SRUN | {"MASTER_ADDR": "node1", "MASTER_PORT": "1"}, "`srun` with 2 tasks"),
            (SRUN | {"MASTER_ADDR": "node1", "WORLD_SIZE": "2"}, "`srun` with 2 tasks"),
            (SRUN | {"LOCAL_RANK": "-1"}, "`srun` with 2 tasks"),
            ({"OMPI_COMM_WORLD_SIZE": "2"}, "`mpirun` with 2 processes"),
            ({"PMI_SIZE": "3"}, "`mpirun` with 3 processes"),
            ({"MV2_COMM_WORLD_SIZE": "3"}, "`mpirun` with 3 processes"),
        ],
    )
    def test_processes_that_would_each_train_by_themselves_are_an_error(
        self, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], who: str
    ) -> None:
        message = f"^{who} started this script.*`srun --ntasks-per-node=1 torchrun .*set `WORLD_SIZE=1`$"
        with pytest.raises(ConfigError, match=message):
            self.start(monkeypatch, environment)

    @pytest.mark.parametrize(
        "environment",
        [
            {},
            BATCH | {"SLURM_PROCID": "0"},  # Python in a batch script, which is not a task
            {"SLURM_NTASKS": "4"},  # in the shell of salloc
            BATCH | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
            SRUN | {"WORLD_SIZE": "1"},  # separate runs
            SRUN | {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"},  # torchrun with one process inside a task
            {"OMPI_COMM_WORLD_SIZE": "1"},
            {"LOCAL_RANK": "-1"},
            {"SLURM_NTASKS": "many"},
        ],
    )
    def test_one_that_is_alone_or_has_a_launcher_is_fine(
        self, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
    ) -> None:
        self.start(monkeypatch, environment)
        assert os.environ.get("LOCAL_RANK") != "-1"  # the value for "not distributed", which is no rank

    def test_accelerate_joins_the_processes_of_mpirun_on_cpus_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        environment = {"OMPI_COMM_WORLD_SIZE": "2", "MASTER_ADDR": "node1"}
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
        self.start(monkeypatch, environment)
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
        with pytest.raises(ConfigError, match="`mpirun` with 2 processes"):
            self.start(monkeypatch, environment)

    def test_a_world_without_ranks_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigError, match="`WORLD_SIZE` is 2, but this process would train by itself"):
            self.start(monkeypatch, {"WORLD_SIZE": "2"})

    @pytest.mark.parametrize(
        ("environment", "words"),
        [
            ({"WORLD_SIZE": "2", "RANK": "0"}, "without `MASTER_ADDR`, `MASTER_PORT`: start it by `torchrun`"),
            ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "node1"}, "without `MASTER_PORT`: start"),
            ({"WORLD_SIZE": "two"}, "`WORLD_SIZE` is 'two', and must be a number of processes: unset it"),
            ({"WORLD_SIZE": ""}, "`WORLD_SIZE` is '', and must be"),
        ],
    )
    def test_a_world_that_is_half_set_is_named(
        self, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: str
    ) -> None:
        with pytest.raises(ConfigError, match=words):
            self.start(monkeypatch, environment)

    def test_the_timeout_is_the_setting_or_pytorch_s_own(self) -> None:
        assert "timeout" not in setup.start_processes().options
        assert setup.start_processes(90.5).options["timeout"].total_seconds() == 90.5


def test_a_run_directory_that_some_process_does_not_see_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Agreement, "gather", lambda self, value: [value, False])
    with pytest.raises(ConfigError, match="is not on a disk that all nodes share: choose one with `--run-dir`"):
        Run(Config(tmp_path / "run"))


def test_the_settings_versions_commit_and_processes_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "paccel.runtime.record.opening.read_sources", lambda: Sources("c0ffee+", {"files": {"train.py": "0"}}, b"+1\n")
    )
    with Run(Config(tmp_path / "run")):
        pass
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    assert kept["settings"]["run_dir"] == str(tmp_path / "run")
    assert (kept["git_commit"], kept["num_processes"]) == ("c0ffee+", 1)
    assert kept["versions"]["torch"] == metadata.version("torch")


def test_the_path_of_a_run_is_the_run_that_goes_on(tmp_path: Path) -> None:
    Record(tmp_path).write_status("stopped", 3, 1)
    assert choose_run_dir(None, str(tmp_path))[:2] == (tmp_path, None)


def test_the_first_failure_is_the_reason_and_a_later_start_has_its_own(tmp_path: Path) -> None:
    record = Record(tmp_path)
    for reason in ("the disk is full", "a connection was lost"):
        record.write_status("failed", 3, 1, reason)
    assert record.failure() == "the disk is full"
    assert json.loads((tmp_path / "status.json").read_text())["reason"] == "the disk is full"
    later = Record(tmp_path)
    assert later.failure() is None
    assert later.claim(read_status(tmp_path))
    later.write_status("failed", 4, 1, "another reason")
    assert later.failure() == "another reason"


def test_a_last_line_that_was_torn_goes_even_where_it_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}\n{"step": 2, "a": 1}')
    Record(tmp_path).metrics.cut_back(2)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"step": 1}\n{"step": 2}\n'
