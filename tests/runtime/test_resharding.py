"""A checkpoint of any layout loads on any other: equal weights, averages and optimizer state, to the bit."""

import itertools
import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support.sampled import every_third_day
from support.together import free_ports, together
from torch import nn

from paccel.runtime import EMA, Checkpoints, ConfigError, Run, load_weights
from paccel.runtime.errors import AgreementError, CheckpointError
from paccel.runtime.hardware import prepare, sharding, states
from paccel.runtime.storage import files, stored

LAYOUTS = {"plain": 1, "ddp on 2": 2, "fsdp2 on 2": 2, "fsdp2 on 3": 3}
SHARDED = [layout for layout in LAYOUTS if layout.startswith("fsdp2")]
ENGINES = {"zero 2 on 2": 2, "zero 3 on 2": 3}  # and their stages: DeepSpeed runs once in a process


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path
    resume: str = "never"


class Net(nn.Module):
    """Rows that do not halve, tied weights, a frozen layer, a buffer, a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(301, 70)
        self.frozen = nn.Linear(70, 5)
        self.head = nn.Linear(70, 301)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("count", torch.zeros(3))
        self.frozen.requires_grad_(False)

    def forward(self) -> torch.Tensor:
        """A loss whose gradients are those that `train` gives each weight, up to rounding."""
        weights, bias = self.embed(torch.arange(301)), self.head(torch.zeros(1, 70))
        loss = sum((0.05 * w**2 + w).sum() for w in (weights, bias, self.scale))
        return loss + 0 * self.frozen(weights).sum()


def make(run: Run, layout: str, seed: int = 0) -> tuple[nn.Module, Any, EMA | None]:
    torch.manual_seed(seed)
    with torch.device("meta") if layout in SHARDED and seed else nullcontext():
        model: nn.Module = Net()
    if layout in SHARDED:
        from torch.distributed import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(model, mesh=init_device_mesh("cpu", (run.accelerator.num_processes,)))
        if seed:
            model.to_empty(device="cpu")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model, optimizer = run.prepare(model, optimizer)
    return model, optimizer, None if layout == "zero 3 on 2" else EMA(model, decay=0.5)


def train(model: nn.Module, optimizer: Any, ema: EMA | None) -> None:
    """Steps whose gradients are a function of each weight alone, so that every layout takes the same ones."""
    assert ema is not None
    for _ in range(3):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = parameter.detach() * 0.1 + 1
        optimizer.step()
        ema.update()
    next(b for _, b in model.named_buffers()).fill_(7)


def everything(model: nn.Module, optimizer: Any, ema: EMA | None) -> dict[str, torch.Tensor]:
    """Whole tensors of all that was saved."""
    inner = getattr(model, "module", model)
    found = {name: sharding.whole(value) for name, value in inner.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        found |= {f"{number}.{name}": sharding.whole(value) for name, value in values.items()}
    return {n: v.detach().clone() for n, v in found.items()} | averages(ema)


def averages(ema: EMA | None) -> dict[str, torch.Tensor]:
    return {} if ema is None else {f"ema.{name}": value for name, value in ema.state_dict()["averages"].items()}


def tracked(model: nn.Module, optimizer: Any, ema: EMA | None) -> dict[str, Any]:
    return {"model": model, "optimizer": optimizer} | ({} if ema is None else {"ema": ema})


def save_all(layouts: list[str], background: bool) -> dict[str, torch.Tensor]:
    prepare.SPREAD_FROM, states._SPLIT, stored.BLOCK = 1, 1000, 20000  # as if it were large
    found: dict[str, torch.Tensor] = {}
    for layout in layouts:
        with Run(Config(Path(layout))) as run:
            made = make(run, layout)
            train(*made)
            run.position.step = 3
            checkpoints = Checkpoints(run, background=background, max_shard_size=50_000, **tracked(*made))
            checkpoints.save()
            found = everything(*made)
            checkpoints.save_weights("final")
    return found


def differences(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> list[str]:
    """What is not equal to the bit, of all that is in both; an average is not in a checkpoint that had no EMA."""
    apart = found.keys() ^ expected.keys()
    wrong = [name for name in found.keys() & expected.keys() if not torch.equal(found[name], expected[name])]
    return sorted([*wrong, *(name for name in apart if not name.startswith("ema."))])


def load_all(layouts: list[str], expected: dict[str, dict[str, torch.Tensor]]) -> list[str]:
    """What differs from what was saved, with a line for each layout that it was saved and is loaded in."""
    problems = []
    for layout, source in itertools.product(layouts, expected):
        run_dir = Path(f"{source} to {layout}")
        with Run(Config(run_dir, f"{source}/checkpoints/step-3")) as run:
            made = make(run, layout, seed=1)
            assert Checkpoints(run, **tracked(*made)).restore() == 3
            wrong = differences(everything(*made), expected[source])
            problems += [f"{run_dir}: {wrong}"] if wrong else []
            other, *_ = make(run, layout, seed=2)
            load_weights(Path(source) / "weights" / "final.safetensors", getattr(other, "module", other))
            weights = {n: sharding.whole(p.detach()) for n, p in getattr(other, "module", other).named_parameters()}
            saved = {n: expected[source].get(f"ema.{n}", expected[source][n]) for n in weights}
            wrong = differences(weights, saved)
            problems += [f"weights of {run_dir}: {wrong}"] if wrong else []
    return problems


def everything_of_engine(run: Run, model: Any, optimizer: Any, ema: EMA | None) -> dict[str, torch.Tensor]:
    """What DeepSpeed's own functions say of the weights and moments, which it holds in flat buffers."""
    from deepspeed import zero
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    inner = run.accelerator.unwrap_model(model)
    found: dict[str, Any] = dict(inner.named_buffers())
    for name, parameter in inner.named_parameters(remove_duplicate=False):
        with zero.GatheredParameters([parameter]):  # what the forward pass computes with
            found[name] = parameter.detach().clone()
        if parameter.requires_grad:  # what the optimizer updates
            assert torch.equal(found[name], safe_get_full_fp32_param(parameter))
    state = optimizer.state_dict()["state"]
    for number, parameter in enumerate(p for p in inner.parameters() if p.requires_grad):
        moments = {m: safe_get_full_optimizer_state(parameter, m) for m in ("exp_avg", "exp_avg_sq")}
        found |= {f"{number}.{name}": value for name, value in (state[number] | moments).items()}
    return {name: value.detach().clone() for name, value in found.items()} | averages(ema)


def train_engine(run: Run, model: Any, optimizer: Any, ema: EMA | None, steps: int) -> None:
    for _ in range(steps):
        run.prepared.backward(model(), 1, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if ema is not None:
            ema.update()
    next(b for _, b in model.named_buffers()).fill_(7)


def save_in_engine(layout: str) -> dict[str, torch.Tensor]:
    from support.on_device import deepspeed, use_deepspeed_on_the_cpu

    use_deepspeed_on_the_cpu()
    os.environ |= deepspeed(Path(f"settings of {os.environ['RANK']}"), ENGINES[layout])
    with Run(Config(Path(layout))) as run:
        made = make(run, layout)
        train_engine(run, *made, steps=3)
        run.position.step = 3
        checkpoints = Checkpoints(run, background=True, max_shard_size=50_000, **tracked(*made))
        checkpoints.save()
        checkpoints.save_weights("final")
        return everything_of_engine(run, *made)


def load_in_engine(layout: str, expected: dict[str, dict[str, torch.Tensor]]) -> list[str]:
    from support.on_device import deepspeed, use_deepspeed_on_the_cpu

    use_deepspeed_on_the_cpu()
    os.environ |= deepspeed(Path(f"settings of {os.environ['RANK']}"), ENGINES[layout])
    problems: list[str] = []
    with Run(Config(Path(f"all to {layout}"), f"{next(iter(expected))}/checkpoints/step-3")) as run:
        made = make(run, layout, seed=1)
        for source, saved in expected.items():
            train_engine(run, *made, steps=1)  # so that nothing is as it was restored before
            assert differences(everything_of_engine(run, *made), saved)
            run.fork = Path(source, "checkpoints/step-3")
            assert Checkpoints(run, **tracked(*made)).restore() == 3
            wrong = differences(everything_of_engine(run, *made), saved)
            problems += [f"{source} to {layout}: {wrong}"] if wrong else []
    return problems


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, torch.Tensor]]]:
    """A folder with a run of each layout, and what was saved in each: the same, to the bit."""
    folder, expected = tmp_path_factory.mktemp("saved"), {}
    for count in (1, 2, 3):
        layouts = [layout for layout, processes in LAYOUTS.items() if processes == count]
        found = together(save_all, folder, layouts, count == 2, processes=count, timeout=120)
        expected |= dict.fromkeys(layouts, found[0])
        assert all(not differences(each, expected["plain"]) for each in found)
    assert sum(name.startswith("ema.") for name in expected["plain"]) == 5
    return folder, expected


@pytest.mark.slow
@pytest.mark.timeout(400)
@every_third_day(1)
def test_what_was_saved_in_any_layout_loads_in_any_other(
    saved: tuple[Path, dict[str, dict[str, torch.Tensor]]],
) -> None:
    tmp_path, expected = saved
    files_of = {layout: {p.name for p in (tmp_path / layout / "checkpoints/step-3").iterdir()} for layout in LAYOUTS}
    assert files_of["plain"] == {
        "manifest.json",
        "state.json",
        *(f"{n}.safetensors" for n in ("model", "optimizer", "ema")),
    }
    for layout, processes in LAYOUTS.items():
        if processes > 1:
            assert {f"index-{rank + 1:05}-of-{processes:05}.json" for rank in range(processes)} <= files_of[layout]
            sizes = [
                (tmp_path / layout / f"checkpoints/step-3/model-{r + 1:05}-of-{processes:05}.safetensors")
                .stat()
                .st_size
                for r in range(processes)
            ]
            assert max(sizes) < 1.2 * min(sizes)  # spread evenly, and written once
            assert sum(sizes) < 1.2 * (tmp_path / "plain/checkpoints/step-3/model.safetensors").stat().st_size
    for layout in LAYOUTS:
        folder = tmp_path / layout / "weights" / "final"
        assert len(list(folder.glob("model-*-3-of-*.safetensors"))) > 1
        assert (folder / "model.safetensors.index.json").exists()
    for count in (1, 2, 3):
        layouts = [layout for layout, processes in LAYOUTS.items() if processes == count]
        for problems in together(load_all, tmp_path, layouts, expected, processes=count, timeout=240):
            assert problems == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_deepspeed_has_saved_loads_in_any_other_layout_and_the_other_way_round(
    saved: tuple[Path, dict[str, dict[str, torch.Tensor]]],
) -> None:
    pytest.importorskip("deepspeed")
    folder, of_others = saved
    of_engines = {layout: together(save_in_engine, folder, layout, timeout=120)[0] for layout in ENGINES}
    for layout, found in of_engines.items():  # gradients are summed in another order
        there = {name: value for name, value in of_others["plain"].items() if name in found}
        torch.testing.assert_close(found, there, rtol=1e-5, atol=1e-5)
        step = folder / layout / "checkpoints/step-3"
        sizes = [(step / f"optimizer-{rank:05}-of-00002.safetensors").stat().st_size for rank in (1, 2)]
        assert max(sizes) < 1.2 * min(sizes)  # each process has written half
    for count in (1, 2, 3):
        layouts = [layout for layout, processes in LAYOUTS.items() if processes == count]
        for problems in together(load_all, folder, layouts, of_engines, processes=count, timeout=240):
            assert problems == []
    for layout in ENGINES:
        for problems in together(load_in_engine, folder, layout, of_others | of_engines, timeout=240):
            assert problems == []


def parallelism(kinds: dict[str, int]) -> str:
    """What accelerate's launcher sets for a kind of parallelism; returns the error."""
    os.environ["ACCELERATE_USE_PARALLELISM_CONFIG"] = "true"
    os.environ |= {f"PARALLELISM_CONFIG_{kind}_SIZE": str(size) for kind, size in kinds.items()}
    try:
        with Run(Config(Path("refused"))):
            return "nothing was refused"
    except ConfigError as error:
        return str(error)


def tensor_parallel() -> list[str]:
    """Layers that PyTorch has split over processes, and shards over some of them."""
    from torch.distributed import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    said = []
    for number in range(4):
        with Run(Config(Path(f"mesh-{number}"))) as run:
            model = nn.Sequential(nn.Linear(4, 4))
            if number == 0:
                parallelize_module(model, init_device_mesh("cpu", (2,)), {"0": ColwiseParallel()})
            elif number == 1:
                mesh = init_device_mesh("cpu", (1, 2), mesh_dim_names=("dp", "tp"))
                parallelize_module(model, mesh["tp"], {"0": ColwiseParallel()})
                fully_shard(model, mesh=mesh["dp"])
            elif number == 2:
                mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard"))
                fully_shard(model, mesh=mesh["shard"])
            else:
                fully_shard(model, mesh=init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard")))
            try:
                run.prepare(model, torch.optim.SGD(model.parameters(), lr=1.0))
                Checkpoints(run, model=model).save()
                said.append("nothing")
            except ConfigError as error:
                said.append(str(error))
    return said


@pytest.mark.slow
def test_processes_that_would_have_to_share_samples_are_refused_before_the_first_step(tmp_path: Path) -> None:
    (said,) = together(parallelism, tmp_path, {"TP": 2, "CP": 2}, processes=1)
    assert "is set up for tensor and context parallelism, in which processes share samples" in said
    found = together(tensor_parallel, tmp_path)
    assert found[0] == found[1]
    split, both, some, replicas = found[0]
    assert "is no data parallelism: shard it with `fully_shard` over all processes" in split
    assert "is no data parallelism" in both
    assert "over 1 of 2 processes" in some
    assert replicas == "nothing"
    assert len(list(tmp_path.glob("mesh-3/checkpoints/step-0/model-*.safetensors"))) == 2  # each replica writes some


def fail_on_one(background: bool, ports: list[int]) -> list[str]:
    """Saves of which the second fails on process 1; what each process has raised, and where."""
    os.environ["MASTER_PORT"] = str(ports.pop())
    said = []
    with Run(Config(Path(f"run-{background}"))) as run:
        checkpoints = Checkpoints(run, background=background, **tracked(*make(run, "fsdp2 on 2")))
        written = files.durable_write

        def full(path: Path, *args: Any, **options: Any) -> Any:
            if "step-2" in str(path) and run.agreement.rank == 1:
                raise OSError(28, "No space left on device", str(path))
            return written(path, *args, **options)

        files.durable_write = full  # type: ignore[assignment]
        for step in (1, 2, 3):
            run.position.step = step
            try:
                checkpoints.save()
            except (OSError, AgreementError) as error:
                said.append(f"step {step}: {error}")
        files.durable_write = written
    return said


@pytest.mark.slow
def test_a_disk_that_is_full_on_one_process_is_an_error_on_all_and_the_last_checkpoint_stands(tmp_path: Path) -> None:
    for background in (False, True):
        first, second = together(fail_on_one, tmp_path, background, free_ports(1))
        at = 3 if background else 2  # the next save
        assert [line[:7] for line in first] == [line[:7] for line in second] == [f"step {at}:"]
        assert "Process 1 failed: OSError: [Errno 28] No space left on device" in first[0]
        assert "No space left on device: 'run-" in second[0]
        left = sorted(path.name for path in (tmp_path / f"run-{background}" / "checkpoints").iterdir())
        assert left == (["step-1"] if background else ["step-1", "step-3"])


def restore_damaged(ports: list[int]) -> list[str]:
    """A checkpoint whose file process 1 cannot read any more once it was verified."""
    said = []
    os.environ["MASTER_PORT"] = str(ports.pop())
    with Run(Config(Path("run"))) as run:
        checkpoints = Checkpoints(run, **tracked(*make(run, "fsdp2 on 2")))
        checkpoints.save()
    os.environ["MASTER_PORT"] = str(ports.pop())
    with Run(Config(Path("run"), "auto")) as run:
        checkpoints = Checkpoints(run, **tracked(*make(run, "fsdp2 on 2")))
        assert checkpoints.step == 0
        if run.agreement.rank == 1:
            file = next(Path("run/checkpoints/step-0").glob("model-00002-*"))
            file.write_bytes(file.read_bytes()[:-9000] + bytes(9000))
        run.agreement.gather(None)
        try:
            checkpoints.restore()
        except (CheckpointError, AgreementError) as error:
            said.append(str(error))
    return said


@pytest.mark.slow
def test_what_is_damaged_for_one_process_is_an_error_on_all(tmp_path: Path) -> None:
    first, second = together(restore_damaged, tmp_path, free_ports(2))
    assert (
        "`run/checkpoints/step-0/model-00002-of-00002.safetensors` has the right size and the wrong content"
        in second[0]
    )
    assert "model-00002-of-00002.safetensors` has the right size and the wrong content" in first[0]
