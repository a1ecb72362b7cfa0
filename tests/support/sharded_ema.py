"""Run by `test_ema` in two processes: the EMA of a model sharded by FSDP2 equals that of a whole model."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

from paccel.runtime.ema import EMA


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1)).double()  # 5 rows and 1 row do not divide by 2


def change(model: nn.Module, step: int) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.1 * step)


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    try:
        whole, sharded = make_model(), make_model()
        fully_shard(sharded, mesh=dist.init_device_mesh("cpu", (2,)))
        expected, ema = EMA(whole, decay=0.9), EMA(sharded, decay=0.9)
        for step in range(1, 4):
            for model, average in ((whole, expected), (sharded, ema)):
                change(model, step)
                average.update()
        state = ema.state_dict()
        check(expected.state_dict()["averages"], state["averages"])

        other = make_model()
        fully_shard(other, mesh=dist.init_device_mesh("cpu", (2,)))
        restored = EMA(other)
        restored.load_state_dict(state)
        assert restored.updates == 3
        with restored.swapped_in():
            check(expected.state_dict()["averages"], {name: p.full_tensor() for name, p in other.named_parameters()})
        check(dict(make_model().named_parameters()), {name: p.full_tensor() for name, p in other.named_parameters()})
        (folder / f"done-{rank}").touch()
    finally:
        dist.destroy_process_group()


def check(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    assert list(expected) == list(found)
    for name in expected:
        assert torch.equal(expected[name], found[name]), name
