"""Settled once, before a run starts: process group, device, precision, numerics."""

import os
import sys
from datetime import timedelta

import torch
from accelerate import PartialState

from ..errors import ConfigError
from .meeting import meeting_place

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # ours -> accelerate's


def start_processes(timeout: float | None = None) -> PartialState:
    """Join the process group that a launcher has prepared, on the accelerator if there is one, else on the CPU.

    Args:
        timeout: Seconds that processes wait for each other. None is PyTorch's own: 10 minutes for NCCL, else 30.

    Raises:
        ConfigError: There are several processes, each of which would train by itself, as `srun` and `mpirun` start them.
    """
    if "RANK" not in os.environ and os.environ.get("WORLD_SIZE") != "1":  # no launcher
        if tasks := _tasks():
            raise ConfigError(
                f"{tasks} started this script, and each process would train by itself: start one process on each node "
                "that runs `torchrun` or `accelerate launch`, such as `srun --ntasks-per-node=1 torchrun … train.py`. "
                "If each is to be a run of its own, set `WORLD_SIZE=1`"
            )
        os.environ.pop("LOCAL_RANK", None)  # of an environment made for other tools: -1 is "not distributed" there
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_PORT" in os.environ
    if asked and not {"WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"} & os.environ.keys():  # seen in accelerate 1.15
        text = "`accelerate launch --cpu` starts one process, whatever `--num_processes` says: use `torchrun --nproc-per-node`"
        print(f"warning: {text}", file=sys.stderr, flush=True)
    waits = {} if timeout is None else {"timeout": timedelta(seconds=timeout)}
    processes = PartialState(cpu=not torch.accelerator.is_available(), **meeting_place(), **waits)
    if _number("WORLD_SIZE") > processes.num_processes:
        raise ConfigError(
            f"`WORLD_SIZE` is {_number('WORLD_SIZE')}, but this process would train by itself: start it by `torchrun` or "
            "`accelerate launch`, which set `RANK` and `LOCAL_RANK` too"
        )
    skip_search_for_gpus()
    return processes


def _tasks() -> str | None:
    """Which program has started this process several times, and how often; None if it is the only one.

    A batch script of Slurm, and the shell of `salloc`, know the number of tasks of the job without being one of them.
    In a step of `srun`, `SLURM_STEP_NUM_TASKS` is the number of its tasks. On CPUs, accelerate joins the processes of
    `mpirun` that `MASTER_ADDR` tells where to meet.
    """
    processes = max(map(_number, ("OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMI_SIZE")))
    if processes > 1:
        is_joined = "MASTER_ADDR" in os.environ and not torch.accelerator.is_available()
        return None if is_joined else f"`mpirun` with {processes} processes"
    is_script = os.environ.get("ENVIRONMENT") == "BATCH" or "SLURM_PROCID" not in os.environ
    tasks = _number("SLURM_NTASKS") if not is_script or _number("SLURM_PROCID", 0) else 1
    tasks = _number("SLURM_STEP_NUM_TASKS", tasks)
    return f"`srun` with {tasks} tasks" if tasks > 1 else None


def _number(name: str, default: int = 1) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default


def skip_search_for_gpus() -> None:
    """Keep PyTorch from searching for GPUs in each step, where there is none.

    DeepSpeed and Lightning set this variable when they are imported, accelerate imports DeepSpeed where it is
    installed, and a launcher hands it on. Without a GPU it changes no answer, and every optimizer step searches for
    NVIDIA's library again.
    """
    if not torch.cuda.is_available():
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)


def choose_precision(wanted: str, device: torch.device) -> tuple[str, str]:
    """The precision to train in, in accelerate's word for it, and why.

    The `Config` wins over the launcher, which wins over `auto`. The launcher's `no` counts as not chosen:
    `accelerate launch` writes it where nobody chose.

    Raises:
        ConfigError: Unknown, or fp16 on a device on which there is no loss scaling for it.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if wanted != "auto":
        if wanted not in PRECISIONS:
            raise ConfigError(f"Unknown precision `{wanted}`: choose one of `auto`, `fp32`, `bf16`, `fp16`")
        if wanted == "fp16" and device.type == "cpu":
            raise ConfigError("Precision `fp16` needs an accelerator: on the CPU there is no loss scaling for it")
        return PRECISIONS[wanted], "as configured"
    if launched == "fp16" and device.type == "cpu":
        raise ConfigError(
            "accelerate's settings say `fp16` (`ACCELERATE_MIXED_PRECISION`), which needs an accelerator: on the CPU there "
            "is no loss scaling for it. Pass `--precision fp32` or `bf16`"
        )
    if launched != "no":
        return launched, "from the launcher's settings"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "this GPU computes in bf16"
        return "fp16", "this GPU has no bf16"
    return "no", f"full precision on {device.type}"


def precision_name(accelerates: str) -> str:
    return next((ours for ours, theirs in PRECISIONS.items() if theirs == accelerates), accelerates)


def set_up_numerics(device: torch.device, deterministic: bool) -> None:
    """TensorFloat-32 for float32 matrices on CUDA, or deterministic algorithms only, slower and the same each time."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    elif device.type == "cuda":
        torch.set_float32_matmul_precision("high")
