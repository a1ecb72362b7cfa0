"""Decisions made once, before a run starts: device, precision, run directory."""

import itertools
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import LoggerType
from torch.distributed.rendezvous import rendezvous

from .agreement import Agreement
from .errors import ConfigError
from .record import RUNS, Record, is_alive, new_run_dir, newest_unfinished, read_status
from .storage import list_checkpoints

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # ours -> accelerate's


_stores: dict[tuple[str, ...], Any] = {}
_runs = itertools.count(1)  # with several processes: each makes the same number of them


def start_processes() -> PartialState:
    """Join the process group that a launcher has prepared, on the accelerator if there is one, else on the CPU."""
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_PORT" in os.environ
    if asked and not {"WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"} & os.environ.keys():  # seen in accelerate 1.15
        text = "`accelerate launch --cpu` starts one process, whatever `--num_processes` says: use `torchrun --nproc-per-node`"
        print(f"warning: {text}", file=sys.stderr, flush=True)
    processes = PartialState(cpu=not torch.accelerator.is_available(), **_meeting_place())
    skip_search_for_gpus()
    return processes


def _meeting_place() -> dict[str, Any]:
    """Where a launcher's processes find each other: in one store, a place of its own for each run of a process.

    A store, with the addresses of a run's processes in it, lives on while a model that was wrapped in the run does. A
    later group at the same port would find them and wait for threads that are gone.
    """
    names = "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
    rank, size, *where = (os.environ.get(name, "") for name in names)
    if not (rank and size.isdecimal() and int(size) > 1 and all(where)) or dist.is_initialized():
        return {}
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        if next(_runs) > 1:
            raise ConfigError(
                "DeepSpeed works in one run of a process, as it keeps the group of processes that ends with the run: "
                "start each further run in a process of its own"
            )
        return {}  # it takes no store
    if tuple(where) not in _stores:
        _stores[tuple(where)] = next(rendezvous("env://"))[0]
    store = dist.PrefixStore(f"run-{next(_runs)}", _stores[tuple(where)])  # type: ignore[attr-defined]
    return {"store": store, "rank": int(rank), "world_size": int(size)}


def skip_search_for_gpus() -> None:
    """Let PyTorch answer at once that there is no GPU, where there is none.

    DeepSpeed and Lightning set this variable when they are imported, accelerate imports DeepSpeed where it is
    installed, and a launcher hands it on. Without a GPU it changes no answer, and every optimizer step searches for
    NVIDIA's library again.
    """
    if not torch.cuda.is_available():
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)


def choose_precision(wanted: str, device: torch.device) -> tuple[str, str]:
    """The precision to train in, in accelerate's word for it, and why.

    A setting of one's own wins over the launcher's, which wins over `auto`. The launcher's `no` counts as not chosen:
    `accelerate launch` writes it where nobody was asked.

    Raises:
        ConfigError: Unknown, or fp16 on a device on which there is no loss scaling for it.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if wanted != "auto":
        if wanted not in PRECISIONS:
            raise ConfigError(f"Unknown precision `{wanted}`: choose one of `auto`, `fp32`, `bf16`, `fp16`")
        if wanted == "fp16" and device.type == "cpu":
            raise ConfigError("Precision `fp16` needs an accelerator: on the CPU there is no loss scaling for it")
        return PRECISIONS[wanted], "as asked for"
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


def check_trackers(names: tuple[str, ...]) -> None:
    """Raise ConfigError, listing all, where a tracker is unknown to accelerate or not installed."""
    own = set(LOGGER_TYPE_TO_CLASS) - {str(name) for name in LoggerType}  # made known by `register_tracker_class`
    available = own | {str(name) for name in get_available_trackers()}
    problems = []
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            problems.append(f"unknown tracker `{name}`: choose from {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}")
        elif name not in available:
            problems.append(f"tracker `{name}` is not installed: `pip install {name}`")
    if problems:
        raise ConfigError("; ".join(problems))


def choose_run_dir(run_dir: str | Path | None, resume: str) -> tuple[Path, Path | None]:
    """The run directory, made if it is new, and the checkpoint that a fork starts from.

    `auto` continues in `run_dir`, or in the newest unfinished run under `runs/`, or starts anew where there is none.
    `never` starts anew. A run directory continues that run; a checkpoint's folder starts a new run from it.

    Raises:
        ConfigError: The directory holds a run already and nobody asked to continue it; or the path to resume from
            holds none; or the run is still being written by another process.
    """
    given = None if run_dir is None else Path(run_dir)
    fork = None
    if resume not in ("auto", "never"):
        source = Path(resume)
        if (source / "manifest.json").exists():
            fork = source
        elif (source / "status.json").exists():
            if given is not None and given.resolve() != source.resolve():
                raise ConfigError(f"`--resume {source}` continues in that directory, and `--run-dir` says `{given}`")
            given = source
        else:
            raise ConfigError(f"Nothing to resume from at `{source}`: neither a run directory nor a checkpoint")
    if given is None and resume == "auto":
        given = newest_unfinished(RUNS)
    if given is None:
        return new_run_dir(RUNS), fork
    status = read_status(given)
    if is_alive(status):
        raise ConfigError(f"`{given}` is being written by process {status['process']}, which still runs")
    if status and (resume == "never" or fork is not None):
        raise ConfigError(f"`{given}` holds a run already: pass `--resume auto` to continue it, or choose another")
    try:
        given.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The run directory `{given}` cannot be made: {error.strerror}") from None
    return given, fork


def open_run_dir(agreement: Agreement, config: Any, settings: dict[str, Any]) -> tuple[Record, Path | None]:
    """Choose the run directory on the main process, and see that every process has it on its disk. Collective."""

    def choose() -> tuple[Record, Path | None]:
        run_dir, fork = choose_run_dir(getattr(config, "run_dir", None), str(getattr(config, "resume", "never")))
        record = Record(run_dir, is_new=not any(run_dir.iterdir()))
        origin = fork
        if fork is None:
            record.check_settings(settings)
            origin = record.origin()
            if not list_checkpoints(run_dir / "checkpoints"):
                fork = origin  # killed before its own first checkpoint, a fork begins at the same place again
        environment = {"num_processes": agreement.num_processes}
        record.write_settings(settings, environment | ({"forked_from": str(origin)} if origin else {}))
        if fork is not None:
            record.take_metrics_of(fork)
        record.write_status("running", 0, 0)
        return record, fork

    record, fork = agreement.on_main(choose)
    if not all(agreement.gather((record.run_dir / "config.json").exists())):
        raise ConfigError(f"`{record.run_dir}` is not on a disk that all nodes share: choose one with `--run-dir`")
    return record, fork
