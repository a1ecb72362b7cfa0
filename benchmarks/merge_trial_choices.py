"""The trial's scenarios in which a conflict is acceptable, and so is the one right merge.

One expectation was too narrow and is mended: a new key may also stand at the end of its JSON object.
"""

from merge_base import edit
from merge_trial_files import (
    BF16,
    CHOICES,
    CI,
    COMPILE,
    DEEPSPEED,
    DEV,
    DOCS,
    DUMP,
    EVALUATE,
    EVERY,
    GPU,
    LAUNCH,
    LOADER_ARGUMENTS,
    MICRO,
    NOTIFY,
    PRESCALE,
    PRINT,
    SIZES,
    SIZES_THEIRS,
    SUMMARY,
    TOML,
    UPLOAD,
    WORKFLOW,
    trial,
    two,
)
from merge_words import Scenario, T

EXTRACTED = (
    'def accumulate(run, model, step, meter):\n    """Sum the gradients of a step."""\n'
    + MICRO.replace("\n            ", "\n").removeprefix("            ").replace("train_meter", "meter")
    + "\n\n"
)
EVALUATOR = EVALUATE.replace(
    "def evaluate(run: Run, model: nn.Module, loader: Loader)", "def __call__(self, model: nn.Module)"
)
EVALUATOR = (
    EVALUATOR.replace("Meter(run)", "Meter(self.run)")
    .replace("run.evaluating", "self.run.evaluating")
    .replace("run.batches(loader)", "self.run.batches(self.loader)")
)
CLASSED = (
    "class Evaluator:\n    def __init__(self, run: Run, loader: Loader) -> None:\n        self.run = run\n        self.loader = loader\n\n"
    + "".join(f"    {line}\n" for line in EVALUATOR.rstrip().split("\n"))
    + "\n\n"
)
FIX = ("count=len(labels)", "count=labels.numel()")
DETACH = ("loss=loss, count=step.micro", "loss=loss.detach(), count=step.micro")
CALLED = ("scores = evaluate(run, model, eval_loader)", "scores = Evaluator(run, eval_loader)(model)")
WRAPPED = "            splits.train, config.global_batch_size, shuffle=True,{}\n            num_workers=config.num_workers, limit_batches=config.limit_batches,\n"
LISTED = (
    "            splits.train,\n            config.global_batch_size,\n            shuffle=True,\n" + LOADER_ARGUMENTS
)
PREPARE = "        model, optimizer = run.prepare(model, optimizer)\n"

EITHER: list[Scenario] = [
    trial(
        "either",
        "the user renames the variable of a loop, the template edits a line below one that has it",
        T,
        (
            ("for step in run", "for update in run"),
            ("batch in step:", "batch in update:"),
            ("step.num_samples", "update.num_samples"),
            ("step.micro_batch", "update.micro_batch"),
            ("step.every", "update.every"),
            ("step.due(config.eval", "update.due(config.eval"),
            ("step.due(config.save", "update.due(config.save"),
        ),
        (("grad_norm=grad_norm)", "grad_norm=grad_norm, epoch=epoch)"),),
    ),
    trial(
        "either",
        "the user wraps the arguments of a call anew, the template adds one",
        T,
        ((LISTED, WRAPPED.format("")),),
        (("            shuffle=True,\n", "            shuffle=True,\n            drop_last=True,\n"),),
        ((LISTED, WRAPPED.format(" drop_last=True,")),),
        (((LISTED, WRAPPED.format("\n            drop_last=True,")),),),
    ),
    trial(
        "either",
        "the user makes a function of an inner loop, the template edits a line of it",
        T,
        (
            (MICRO, "                accumulate(run, model, step, train_meter)\n"),
            ("def main(", EXTRACTED + "def main("),
        ),
        (DETACH,),
        (
            (MICRO, "                accumulate(run, model, step, train_meter)\n"),
            ("def main(", edit(EXTRACTED, DETACH) + "def main("),
        ),
    ),
    trial(
        "either",
        "the user makes a class of a function, the template edits its body",
        T,
        ((EVALUATE, CLASSED), CALLED),
        (FIX,),
    ),
    trial(
        "either",
        "the user moves two statements down, the template edits one",
        T,
        ((SIZES, ""), (PREPARE, PREPARE + SIZES.rstrip() + "\n")),
        (SIZES_THEIRS,),
    ),
    trial(
        "either",
        "the user copies a function, the template mends the first",
        T,
        ((EVALUATE, EVALUATE + EVALUATE.replace("def evaluate", "def evaluate_ema")),),
        (FIX,),
        ((EVALUATE, edit(EVALUATE, FIX) + EVALUATE.replace("def evaluate", "def evaluate_ema")),),
        (((EVALUATE, edit(EVALUATE, FIX) + edit(EVALUATE, FIX).replace("def evaluate", "def evaluate_ema")),),),
    ),
    trial(
        "either",
        "the user annotates every argument, the template adds one",
        "choices.py",
        (
            (
                "    images,\n    labels,\n    shifts=2,\n    flip=False,\n",
                "    images: Tensor,\n    labels: Tensor,\n    shifts: int = 2,\n    flip: bool = False,\n",
            ),
            ("from torch.optim import SGD", "from torch import Tensor\nfrom torch.optim import SGD"),
        ),
        (
            ("flip=False,\n", "flip=False,\n    noise=0.0,\n"),
            ("    if flip:\n", "    several.append(images + noise)\n    if flip:\n"),
        ),
        (
            (
                "    images,\n    labels,\n    shifts=2,\n    flip=False,\n",
                "    images: Tensor,\n    labels: Tensor,\n    shifts: int = 2,\n    flip: bool = False,\n    noise=0.0,\n",
            ),
            ("from torch.optim import SGD", "from torch import Tensor\nfrom torch.optim import SGD"),
            ("    if flip:\n", "    several.append(images + noise)\n    if flip:\n"),
        ),
        files=CHOICES,
    ),
    trial(
        "either",
        "the user puts a guard on a case, the template edits the line below",
        "choices.py",
        (('case "cosine":', 'case "cosine" if steps > 1:'),),
        (("CosineAnnealingLR(optimizer, steps)", "CosineAnnealingLR(optimizer, steps, eta_min=1e-6)"),),
        files=CHOICES,
    ),
    trial(
        "either",
        "the user makes an import conditional, the template edits the one above",
        "data.py",
        (
            (
                "from sklearn.datasets import load_digits\n",
                "\ntry:\n    from sklearn.datasets import load_digits\nexcept ImportError:\n    from digits import load_digits\n\n",
            ),
        ),
        (("import DataError\n", "import DataError, seeds\n"),),
    ),
    trial(
        "either",
        "the user makes a pydantic model of the Config, the template edits its docstring",
        T,
        (
            ("from dataclasses import dataclass\n", ""),
            ("import torch\n", "from pydantic import BaseModel\nimport torch\n"),
            ("@dataclass\nclass Config:\n", "class Config(BaseModel, frozen=True):\n"),
        ),
        (("Every setting of a run: `python", "All that can be set: `python"),),
    ),
    two(
        "both export another name",
        "choices.py",
        '    "make_schedule",\n',
        '    "augment",\n',
        '    "CosineAnnealingLR",\n',
        CHOICES,
    ),
    two("both add a group of optional dependencies", "pyproject.toml", DEV, DOCS, GPU, TOML),
    two("both add a step at the end of a workflow", CI, SUMMARY, UPLOAD, NOTIFY, WORKFLOW),
    trial(
        "either",
        "both add a key at one place of a JSON file",
        "ds.json",
        ((PRINT, PRINT + PRESCALE),),
        ((PRINT, PRINT + DUMP),),
        ((PRINT, PRINT + PRESCALE + DUMP),),
        (
            ((PRINT, PRINT + DUMP + PRESCALE),),
            ((PRINT, PRINT + PRESCALE), ('breakdown": false\n', 'breakdown": false,\n' + DUMP.rstrip(",\n") + "\n")),
        ),
        DEEPSPEED,
    ),
    two("both add an option at one place of a launch script", "launch.sh", BF16, COMPILE, EVERY, LAUNCH),
]
