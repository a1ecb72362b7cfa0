"""Setting up a run: process group, device, precision, numerics."""

import os
import sys
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import DistributedType

from ..errors import ConfigError
from .meeting import is_for_deepspeed, meeting_place

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # ours -> accelerate's


def start_processes(timeout: float | None = None) -> PartialState:
    """Join the launcher's process group, on the accelerator if there is one, otherwise on the CPU.

    Args:
        timeout: Seconds that processes wait for each other. None is PyTorch's default: 10 minutes for NCCL, else 30.

    Raises:
        ConfigError: Several processes were started without a launcher (`srun`, `mpirun`), so that each would train by
            itself, or only some of a launcher's environment variables are set.
    """
    _check_world()
    if "RANK" not in os.environ and os.environ.get("WORLD_SIZE") != "1":  # no launcher
        if tasks := _tasks():
            raise ConfigError(
                f"{tasks} started this script, and each process would train by itself: start one process on each node "
                "that runs `torchrun` or `accelerate launch`, such as `srun --ntasks-per-node=1 torchrun … train.py`. "
                "For separate runs, set `WORLD_SIZE=1`"
            )
        os.environ.pop("LOCAL_RANK", None)  # left by other tools, as no launcher set it
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_PORT" in os.environ
    if asked and not {"WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"} & os.environ.keys():  # seen in accelerate 1.15
        text = "`accelerate launch --cpu` starts one process, whatever `--num_processes` says: use `torchrun --nproc-per-node`"
        print(f"warning: {text}", file=sys.stderr, flush=True)
    waits: dict[str, Any] = {} if timeout is None else {"timeout": timedelta(seconds=timeout)}
    place = meeting_place()
    if place and is_for_deepspeed():  # it takes no store, but uses an existing process group
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        dist.init_process_group(dist.get_default_backend_for_device(device), **place, **waits)
        place = {}
    processes = PartialState(cpu=not torch.accelerator.is_available(), **place, **waits)
    if _number("WORLD_SIZE") > processes.num_processes:
        raise ConfigError(
            f"`WORLD_SIZE` is {_number('WORLD_SIZE')}, but this process would train by itself: start it by `torchrun` or "
            "`accelerate launch`, which set `RANK` and `LOCAL_RANK` too"
        )
    skip_search_for_gpus()
    return processes


def _check_world() -> None:
    """Refuse a `WORLD_SIZE` that no launcher set: accelerate would fail, or wait for processes that do not exist."""
    size = os.environ.get("WORLD_SIZE")
    if size is not None and not size.isdecimal():
        raise ConfigError(f"`WORLD_SIZE` is {size!r}, and must be a number of processes: unset it to train with one")
    missing = [f"`{name}`" for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    by_itself = not _tasks() and _mpi_processes() == 1 and not dist.is_initialized()
    if _number("WORLD_SIZE") > 1 and missing and by_itself:
        raise ConfigError(
            f"`WORLD_SIZE` is {size}, but this process would train by itself, without {', '.join(missing)}: start it by "
            "`torchrun` or `accelerate launch`, which set all of them, or unset it to train with one process"
        )


def _mpi_processes() -> int:
    return max(map(_number, ("OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMI_SIZE")))


def _tasks() -> str | None:
    """The program that started several processes without a launcher, and how many; None if there is one process.

    A Slurm batch script and the shell of `salloc` have the job's number of tasks in their environment, but are not tasks.
    In a step of `srun`, `SLURM_STEP_NUM_TASKS` is the number of its tasks. On CPUs, accelerate joins the processes of
    `mpirun` if `MASTER_ADDR` is set.
    """
    processes = _mpi_processes()
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
    """Keep PyTorch from searching for GPUs in each step if there is none.

    DeepSpeed and Lightning set this variable when they are imported, accelerate imports DeepSpeed if it is installed, and
    launchers pass it on. Without a GPU, its only effect is that every optimizer step searches for NVIDIA's library.
    """
    if not torch.cuda.is_available():
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)


def choose_precision(wanted: str, device: torch.device) -> tuple[str, str]:
    """The precision to train in, by accelerate's name, and the reason for it.

    The `Config` has priority, then the launcher, then `auto`. The launcher's `no` counts as not set, because
    `accelerate launch` writes it by default.

    Raises:
        ConfigError: The precision is unknown, is fp16 on a device without loss scaling, or differs from that of an
            `Accelerator` that exists already.
    """
    chosen, why = _choose(wanted, device)
    if is_initialized():
        state = AcceleratorState()
        if state.mixed_precision != chosen and state.distributed_type is not DistributedType.DEEPSPEED:
            raise ConfigError(
                f"This process has an `Accelerator` with the precision `{precision_name(state.mixed_precision)}`, and the "
                f"run would use `{precision_name(chosen)}` ({why}): use `run.accelerator` instead of making one before "
                "`Run(…)`, or end the earlier run first"
            )
    return chosen, why


def _choose(wanted: str, device: torch.device) -> tuple[str, str]:
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
    """Our name of a precision, from accelerate's."""
    return next((ours for ours, theirs in PRECISIONS.items() if theirs == accelerates), accelerates)


def check_launched_parallelism() -> None:
    """Check that `accelerate launch` configured no parallelism in which processes share samples.

    Raises:
        ConfigError: It configured tensor, context or sequence parallelism.
    """
    if os.environ.get("ACCELERATE_USE_PARALLELISM_CONFIG", "false").lower() != "true":
        return
    kinds = {"TP": "tensor", "CP": "context", "SP": "sequence"}
    asked = [name for kind, name in kinds.items() if os.environ.get(f"PARALLELISM_CONFIG_{kind}_SIZE", "1") != "1"]
    if asked:
        raise ConfigError(
            f"accelerate is set up for {' and '.join(asked)} parallelism, in which processes share samples. That is not "
            "supported: use FSDP2 (`dp_shard_size`, `dp_replicate_size`) for models that do not fit one device"
        )


def set_up_numerics(device: torch.device, deterministic: bool) -> None:
    """Use only deterministic algorithms, which are slower, or TF32 for float32 matrix products on CUDA."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    elif device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def leave_processes(accelerator: Accelerator) -> None:
    """End the process group, and reset accelerate, so that the process can start another run. Collective."""
    accelerator.state.destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)
