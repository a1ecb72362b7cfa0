"""A small run that tests start in separate processes, on the available GPUs, or on the CPU.

The code is the same on both. The CPU replaces a GPU where possible: fp16 with a loss scaler, reading norms as late as on a
GPU, accelerate's FSDP2 over gloo.
"""

import json
import multiprocessing
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.other import extract_model_from_parallel
from torch import nn
from torch.utils.data import Dataset, Subset

from paccel.runtime import EMA, Checkpoints, Meter, Run, schedules
from support.scaling import loss_scaler

CUDA = torch.cuda.is_available()
GPUS = torch.cuda.device_count()
WORLD = 2 if GPUS >= 2 or not CUDA else 1  # processes of a sharded run; NCCL wants a GPU for each
FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP",
    "FSDP_MIN_NUM_PARAMS": "200",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}

extract_model_from_parallel(nn.Identity())  # imports DeepSpeed, 0.4 s


def deepspeed(folder: Path, stage: int) -> dict[str, str]:
    """The environment that `accelerate launch` sets for DeepSpeed. Its clipping and accumulation are ignored."""
    shards = {"stage": stage, "reduce_bucket_size": 10_000, "stage3_prefetch_bucket_size": 100}
    shards |= {"stage3_param_persistence_threshold": 40}  # so that some parameters are kept whole, and others are not
    shards |= {"sub_group_size": 100}  # so that a group has several flat buffers in stage 3
    settings = {"zero_optimization": shards, "gradient_accumulation_steps": 3, "gradient_clipping": 0.01}
    settings |= {"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "deepspeed.json").write_text(json.dumps(settings))
    return {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(folder / "deepspeed.json"),
        "IN_PLACE_OF_A_GPU": "deepspeed",
    }


_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["support.on_device"])  # imported once, DeepSpeed too, not in each process


@dataclass
class Config:
    """Settings of the run, and what the test does to it."""

    run_dir: Path
    precision: str = "fp32"
    compile: bool = False
    deterministic: bool = True
    resume: str = "never"
    skip_non_finite: int = 0
    accumulate: int = 1
    num_workers: int = 0
    dropout: float = 0.1
    clip_value: float | None = None
    sync_norm: bool = False
    max_steps: int = 8
    overflow_at: int = 0  # the step whose loss is far too large
    seed: int = 1


class Noisy(Dataset):
    """Samples with noise from the global generator."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = torch.linspace(-1, 1, 12) * (1 + index / 40) + 0.1 * torch.randn(12)
        return inputs, inputs.sum().sin().reshape(1)


def main(config: Config) -> dict[str, Any]:
    """Train, and return the values that a test checks."""
    with Run(config) as run:
        if run.device.type == "cpu" and config.skip_non_finite:
            run.guard.reads = False
        if isinstance(run.accelerator.scaler, torch.amp.GradScaler) and run.device.type == "cpu":
            run.accelerator.state._mixed_precision, run.accelerator.native_amp = "fp16", True
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(32, 1))
        if config.sync_norm:
            model[1] = nn.Sequential(nn.BatchNorm1d(32), nn.Tanh())
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, fused=True)
        model, optimizer = run.prepare(model, optimizer)
        loader = run.loader(Noisy(), 8, shuffle=True, num_workers=config.num_workers)
        schedule = schedules.cosine(optimizer, 16, warmup_steps=2)
        one_sample = run.loader(Subset(Noisy(), [3]), 1)  # the other process has a filler, if it needs one
        ema, meter, losses = EMA(model, decay=0.9), Meter(run), Meter(run)
        checkpoints = Checkpoints(run, model=model, optimizer=optimizer, schedule=schedule, ema=ema, meter=meter)
        start = checkpoints.restore()
        scales, unchanged = {}, []
        for _ in run.epochs(None, config.max_steps):
            model.train()
            for step in run.steps(loader, config.accumulate, flops_per_sample=2.6e3, peak_flops=1e12):
                before = [_local(p).clone() for p in model.parameters()]
                for inputs, targets in step:
                    assert inputs.device.type == run.device.type
                    loss = (model(inputs).float() - targets).square().sum()
                    run.backward(loss * (1e38 if step.number == config.overflow_at else 1.0) / step.num_samples)
                    meter.add(loss=loss, count=step.micro_batch_samples)
                norm = run.clip_grad_norm(model, 0.5)
                if config.clip_value is not None:
                    nn.utils.clip_grad_value_(model.parameters(), config.clip_value)
                    largest = max(_local(p.grad).abs().max().item() for p in model.parameters() if p.grad is not None)
                    assert not largest > config.clip_value * (1 + 1e-6)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                ema.update()
                if all(torch.equal(_local(p), was) for p, was in zip(model.parameters(), before, strict=True)):
                    unchanged.append(step.number)
                if (scaler := run.prepared.loss_scaler) is not None:
                    scales[step.number] = scaler.get_scale()
                if step.number == int(os.environ["KILL_AT"]):
                    os.kill(os.getpid(), signal.SIGKILL)
                if step.every(2):
                    run.log("train", meter.read(), grad_norm=norm)
                if step.due(3):
                    with ema.swapped_in(), run.evaluating(model) as evaluated:
                        for inputs, targets in run.batches(one_sample):
                            losses.add(loss=(evaluated(inputs).float() - targets).square().sum(), count=len(inputs))
                    run.log("eval", losses.read())
                    checkpoints.save()
                if run.stopping():
                    checkpoints.save()
                    raise run.stopped()
        checkpoints.save_weights("final")
        return {
            "start": start,
            "device": str(run.device),
            "scales": scales,
            "unchanged": unchanged,
            "sharded": [hasattr(p, "to_local") or hasattr(p, "ds_tensor") for p in model.parameters()],
            "names": list(run.accelerator.unwrap_model(model).state_dict()),
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if run.device.type == "cuda" else None,
        }


def _local(parameter: Any) -> torch.Tensor:
    value = getattr(parameter, "ds_tensor", parameter).detach()
    return value.to_local() if hasattr(value, "to_local") else value


def start(
    config: Config,
    processes: int = 1,
    environment: dict[str, str] | None = None,
    kill_at: int = 0,
    does: Callable[[Config], dict[str, Any]] = main,
) -> list[dict[str, Any]]:
    """Run `does` in several processes, within two minutes, and return what each of them returns.

    With `kill_at`, SIGKILL ends all of them after the update of that step.

    Raises:
        AssertionError: A process failed, except by the requested SIGKILL, or hung.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    launched = processes > 1 or environment is not None
    config.run_dir.parent.mkdir(parents=True, exist_ok=True)
    outputs = [config.run_dir.parent / f"{config.run_dir.name}-{rank}.json" for rank in range(processes)]
    started = []
    for rank, output in enumerate(outputs):
        output.unlink(missing_ok=True)
        variables = (environment or {}) | {"KILL_AT": str(kill_at), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        if launched:
            variables |= world | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        started.append(_new_process(does, config, variables, output))
        started[-1].start()
    deadline = time.monotonic() + 120
    try:
        for process in started:
            process.join(max(0.0, deadline - time.monotonic()))
    finally:
        late = [process for process in started if process.is_alive()]
        for process in late:
            process.kill()
            process.join(10)
    assert not late, "hung for two minutes"
    texts = "".join(output.read_text() for output in outputs if output.exists())
    assert [p.exitcode for p in started] == [-signal.SIGKILL if kill_at else 0] * processes, texts
    return [json.loads(output.read_text()) for output in outputs if output.exists()]


def _new_process(*args: Any) -> Any:
    """A process forked from one that has imported this file, and DeepSpeed if it is installed."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])  # Python 3.11 looks for it nowhere else
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
    return _server.Process(target=_process, args=args)


def _process(does: Callable[..., Any], config: Config, variables: dict[str, str], output: Path) -> None:
    os.environ.update(variables)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for data workers, as in a script
    if not CUDA and "fsdp" in variables.get("IN_PLACE_OF_A_GPU", ""):
        _let_accelerate_shard_on_the_cpu()
    if not CUDA and "deepspeed" in variables.get("IN_PLACE_OF_A_GPU", ""):
        use_deepspeed_on_the_cpu()
    has_scaler = not CUDA and "scaler" in variables.get("IN_PLACE_OF_A_GPU", "")
    try:
        with loss_scaler(growth_interval=4) if has_scaler else nullcontext():
            found = does(config)
    except BaseException:
        output.write_text(traceback.format_exc())
        raise
    output.write_text(json.dumps(found))


def _let_accelerate_shard_on_the_cpu() -> None:
    """Let accelerate shard on the CPU: it reads an FSDP configuration only if it sees several accelerators."""
    from accelerate.state import DistributedType, PartialState

    from paccel.runtime import run

    original = run.start_processes

    def start_processes(timeout: float | None) -> PartialState:
        state = original(timeout)
        state.distributed_type = DistributedType.MULTI_GPU
        return state

    run.start_processes = start_processes


def use_deepspeed_on_the_cpu() -> None:
    """Let accelerate use DeepSpeed on the CPU, where it ignores DeepSpeed's configuration."""
    from paccel.runtime import run

    original = run.Accelerator
    run.Accelerator = lambda **options: original(**options | {"cpu": False})
