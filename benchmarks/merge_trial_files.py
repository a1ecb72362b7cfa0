"""The files of the trial's scenarios (`merge_trial.py`), and the words in which those are written."""

import json
from collections.abc import Mapping
from typing import Literal

from merge_base import Content, edit
from merge_real import source
from merge_words import Scenario, T

Edits = tuple[tuple[str, str], ...]

# --- the files ----------------------------------------------------------------------------------------------------------

TRAIN, DATA, MODEL = source(), source(path="data.py"), source(path="model.py")
PROJECT = {T: TRAIN, "data.py": DATA, "model.py": MODEL}
SHIFTS = DATA[DATA.index("def with_shifts") : DATA.index("def make_splits")]
SPLITS = DATA[DATA.index("class Splits") : DATA.index("def labelled")]
EVALUATE = TRAIN[TRAIN.index("def evaluate") : TRAIN.index("def main")]
SIZES = TRAIN[TRAIN.index("        total_steps =") : TRAIN.index("        model = make_model")]
SIZES_THEIRS = ("round(config.warmup_ratio * total_steps)", "max(1, round(config.warmup_ratio * total_steps))")
LOADER_ARGUMENTS = "            num_workers=config.num_workers,\n            limit_batches=config.limit_batches,\n"
MICRO = TRAIN[TRAIN.index("                for batch in step:") : TRAIN.index("                grad_norm =")]
FROZEN = ("@dataclass\nclass Config", "@dataclass(frozen=True)\nclass Config")

LOOP = '''def NAME(model, loader, optimizer, epochs):
    """Go over the loader for some epochs."""
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for images, labels in loader:
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"NAME {epoch + 1}: {total / len(loader):.4f}")
'''
STAGES = [LOOP.replace("NAME", name) for name in ("pretrain", "finetune", "distill")]
STAGED = {"stages.py": "\n\n".join(['"""Stages."""\n\nfrom torch.nn.functional import cross_entropy\n', *STAGES])}
CHOICES = {"choices.py": '''"""What names of settings stand for."""

from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR

__all__ = [
    "make_optimizer",
    "make_schedule",
]


def make_optimizer(name, parameters, learning_rate):
    """The optimizer of that name."""
    match name:
        case "adamw":
            return AdamW(parameters, lr=learning_rate)
        case "sgd":
            return SGD(parameters, lr=learning_rate, momentum=0.9)
        case _:
            raise ValueError(f"No optimizer {name!r}")


def make_schedule(name, optimizer, steps):
    """The schedule of that name."""
    match name:
        case "cosine":
            return CosineAnnealingLR(optimizer, steps)
        case "constant":
            return ConstantLR(optimizer, factor=1.0)
        case _:
            raise ValueError(f"No schedule {name!r}")


def augment(
    images,
    labels,
    shifts=2,
    flip=False,
):
    """More images than there are."""
    several = [images.roll(shift, dims=-1) for shift in range(shifts)]
    if flip:
        several.append(images.flip(-1))
    return several, [labels] * len(several)
'''}
CI = ".github/workflows/ci.yml"
WORKFLOW = {CI: """name: ci
on:
  push:
    branches: [main]
  pull_request:
jobs:
  lint:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
      - name: Lint
        run: pipx run ruff check .
  test:
    runs-on: ubuntu-latest
    needs: lint
    steps:
      - uses: actions/checkout@v4
      - name: Install
        run: pip install -e ".[dev]"
      - name: Test
        run: pytest -q
      - name: Try a short training
        run: python train.py --limit_batches 2
  report:
    runs-on: ubuntu-latest
    needs: test
    steps:
      - name: Summary
        run: cat runs/*/metrics.jsonl
"""}
SUMMARY = "        run: cat runs/*/metrics.jsonl\n"
UPLOAD = "      - name: Keep the weights\n        uses: actions/upload-artifact@v4\n"
NOTIFY = "      - name: Tell us\n        run: ./notify.sh\n"
DEEPSPEED = {"ds.json": """{
  "train_batch_size": 256,
  "gradient_accumulation_steps": 4,
  "steps_per_print": 50,
  "bf16": {
    "enabled": true
  },
  "zero_optimization": {
    "stage": 2,
    "overlap_comm": true,
    "contiguous_gradients": true,
    "reduce_bucket_size": 200000000
  },
  "optimizer": {
    "type": "AdamW",
    "params": {
      "lr": 0.001,
      "weight_decay": 0.05
    }
  },
  "wall_clock_breakdown": false
}
"""}
PRINT = '  "steps_per_print": 50,\n'
PRESCALE, DUMP = '  "prescale_gradients": true,\n', '  "dump_state": false,\n'
LAUNCH = {"launch.sh": """set -euo pipefail
NODES=${NODES:-1}
GPUS=8
export OMP_NUM_THREADS=4
export NCCL_DEBUG=WARN

accelerate launch \\
    --num_machines "$NODES" \\
    --num_processes "$((NODES * GPUS))" \\
    --machine_rank "${RANK:-0}" \\
    train.py \\
    --precision bf16 \\
    "$@"
"""}
BF16, COMPILE, EVERY = "    --precision bf16 \\\n", "    --compile true \\\n", "    --log_every 50 \\\n"
PINS = {
    "requirements.txt": "# data\nnumpy==1.26.4\nscikit-learn==1.5.2\ntorchvision==0.21.0\n\n# model\ntorch==2.6.0\n"
    "timm==1.0.12\nsafetensors==0.4.5\n\n# records\ntensorboard==2.18.0\nwandb==0.19.1\n\n# development\npytest==8.3.4\n"
    "ruff==0.8.4\n"
}
PYPROJECT = source(path="pyproject.toml")
BLACK = PYPROJECT[PYPROJECT.index("[tool.black]") : PYPROJECT.index("[tool.ruff]\n")]
PYTEST = PYPROJECT[PYPROJECT.index("\n[tool.pytest") :]
TOML = {"pyproject.toml": edit(PYPROJECT, (BLACK, ""))}
DEV = 'dev = [\n    "pytest>=8",\n]\n'
DOCS, GPU = 'docs = [\n    "mkdocs>=1.6",\n]\n', 'gpu = [\n    "triton>=3",\n]\n'
READ = {
    "README.md": "# Digits\n\nTrain a classifier of digits.\n\n## Install\n\n    pip install -e .\n\n## Use\n\n    python train.py\n"
    "    python train.py --resume auto\n\n## Files\n\n- `train.py`: the loop\n- `data.py`: the images\n- `model.py`: the network\n\n"
    "## License\n\nMIT\n"
}


def notebook(*cells: tuple[str, str]) -> Mapping[str, Content]:
    """A notebook of these cells, each a type and a source."""
    listed = [
        {"cell_type": kind, "metadata": {}, "source": lines.splitlines(keepends=True)}
        | ({"execution_count": None, "outputs": []} if kind == "code" else {})
        for kind, lines in cells
    ]
    whole = {"cells": listed, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return {"look.ipynb": json.dumps(whole, indent=1) + "\n"}


TITLE, LOAD = ("markdown", "# Look at a run"), ("code", "import torch\nweights = torch.load('best.pt')")
COUNT, PLOT = ("code", "sum(w.numel() for w in weights.values())"), ("code", "losses.plot(x='step', y='loss')")
SAFE = ("code", "from safetensors.torch import load_file\nweights = load_file('best.safetensors')")
MINE = ("markdown", "What I found: *the third run is best.*")


def trial(
    outcome: Literal["clean", "conflict", "either"],
    name: str,
    path: str,
    ours: Edits,
    theirs: Edits,
    both: Edits | None = None,
    also: tuple[Edits, ...] = (),
    files: Mapping[str, str] = PROJECT,
    mine: Mapping[str, Content] | None = None,
    new: Mapping[str, Content] | None = None,
) -> Scenario:
    """Edits of one file; `both` is the right merge where it isn't one side's after the other's; `mine`, `new`: other files."""

    def changed(edits: Edits) -> dict[str, Content]:
        return {path: edit(files[path], *edits)}

    result = {} if outcome == "conflict" else changed((*ours, *theirs) if both is None else both) | dict(mine or {})
    left, right = changed(ours) | dict(mine or {}), changed(theirs) | dict(new or {})
    return Scenario(name, left, right, outcome, result, tuple(map(changed, also)), files)  # type: ignore[arg-type]


def two(name: str, path: str, line: str, mine: str, new: str, files: Mapping[str, str]) -> Scenario:
    """Both add something below `line`, and the order means nothing."""
    return trial(
        "either",
        name,
        path,
        ((line, line + mine),),
        ((line, line + new),),
        ((line, line + mine + new),),
        (((line, line + new + mine),),),
        files,
    )
