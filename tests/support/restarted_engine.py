"""A script for torchrun to start and restart: a run under DeepSpeed on the CPU, whose last worker is killed once."""

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.on_device import WORLD, Config, main, use_deepspeed_on_the_cpu

if __name__ == "__main__":
    is_first_start = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    os.environ["KILL_AT"] = "5" if is_first_start and int(os.environ["RANK"]) == WORLD - 1 else "0"
    torch.set_num_threads(1)
    use_deepspeed_on_the_cpu()
    found = main(Config(Path(sys.argv[1]), resume="auto", dropout=0.0))
    Path(f"{sys.argv[1]}-{os.environ['RANK']}.txt").write_text(str(found["start"]))
