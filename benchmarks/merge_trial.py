"""A year of edits, thought of by somebody who had not read the merge; each expectation was written before any run."""

from merge_base import edit, text
from merge_trial_choices import EITHER
from merge_trial_files import (
    CHOICES,
    CI,
    COUNT,
    DEEPSPEED,
    FROZEN,
    LOAD,
    LOADER_ARGUMENTS,
    MINE,
    PINS,
    PLOT,
    PYTEST,
    READ,
    SAFE,
    SHIFTS,
    SIZES,
    SIZES_THEIRS,
    SPLITS,
    STAGED,
    STAGES,
    SUMMARY,
    TITLE,
    TOML,
    TRAIN,
    WORKFLOW,
    notebook,
    trial,
)
from merge_words import Scenario, T

# --- what must merge --------------------------------------------------------------------------------------------------

CLEAN: list[Scenario] = [
    trial(
        "clean",
        "the user adds type hints everywhere, the template edits bodies",
        T,
        (
            ("from torch.nn.functional", "from torch import Tensor, nn\nfrom torch.nn.functional"),
            ("import SGD\n", "import SGD\nfrom torch.utils.data import DataLoader\n"),
            ("compute_loss(model, batch):", "compute_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:"),
            (
                "accuracy(model, loader):",
                "accuracy(model: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]]) -> float:",
            ),
            ("    right = total = 0\n", "    right: int = 0\n    total: int = 0\n"),
        ),
        (
            ("cross_entropy(logits, labels)", "cross_entropy(logits, labels, label_smoothing=0.1)"),
            ("right / total", "right / max(total, 1)"),
        ),
        files={T: text(T)},
    ),
    trial(
        "clean",
        "three loops alike, the user edits the first, the template the second",
        "stages.py",
        (
            ("import cross_entropy\n", "import cross_entropy\nfrom torch.nn.utils import clip_grad_norm_\n"),
            (
                STAGES[0],
                edit(
                    STAGES[0],
                    ("    optimizer.step", "    clip_grad_norm_(model.parameters(), 1.0)\n            optimizer.step"),
                ),
            ),
        ),
        ((STAGES[1], edit(STAGES[1], ("loss.backward", "(loss / 2).backward"))),),
        files=STAGED,
    ),
    trial(
        "clean",
        "the user translates the docstrings, the template edits the code below",
        T,
        (
            (
                "Train an image classifier. The loop at the end is yours: edit it.",
                "Trainiert einen Bildklassifikator; die Schleife ist deine.",
            ),
            ("Return the loss summed over the batch", "Gibt die Summe der Verluste zurück"),
            ("Train as `config` says, on whatever this process was launched on.", "Trainiert, wie es `config` sagt."),
        ),
        (
            ("total_steps, warmup_steps)\n", "total_steps, warmup_steps, final=0.01)\n"),
            ("cross_entropy(logits, labels, r", "cross_entropy(logits.float(), labels, r"),
        ),
    ),
    trial(
        "clean",
        "the user reorders the tables of pyproject.toml, the template edits values",
        "pyproject.toml",
        (
            (PYTEST, ""),
            ("[tool.ruff]\n", PYTEST.lstrip() + "\n[tool.ruff]\n"),
        ),
        (("torch>=2.6", "torch>=2.7"), ('"I", "UP"', '"I", "UP", "B"')),
        files=TOML,
    ),
    trial(
        "clean",
        "the user removes the augmentation, the template edits a message above it",
        "data.py",
        (
            (SHIFTS, ""),
            ("with_shifts(images[train]", "labelled(images[train]"),
            ("from torch.nn import functional as F\n", ""),
        ),
        (("there is nothing to tell apart", "nothing can be learned"),),
        (
            (SHIFTS, ""),
            ("with_shifts(images[train]", "labelled(images[train]"),
            ("from torch.nn import functional as F\n", ""),
            ("there is nothing to tell apart", "nothing can be learned"),
        ),
    ),
    trial(
        "clean",
        "the user folds an assignment into its test, the template edits the next test",
        "data.py",
        (
            (
                "    wrong = ((labels < 0) | (labels >= num_classes)).nonzero().flatten()\n    if len(wrong):\n",
                "    if len(wrong := ((labels < 0) | (labels >= num_classes)).nonzero().flatten()):\n",
            ),
            ('f"{len(wrong)} labels are not', "f\"{f'{len(wrong):,}':>5} labels are not"),
        ),
        (("if len(labels.unique()) < 2:", "if num_classes > 1 and len(labels.unique()) < 2:"),),
    ),
    trial(
        "clean",
        "the user decorates functions whose bodies the template edits",
        "data.py",
        (
            ("from typing", "from functools import cache\nfrom typing"),
            ("def make_splits", "@cache\ndef make_splits"),
            ("def with_shifts", "@torch.no_grad()\ndef with_shifts"),
        ),
        (("[1197, 300, 300]", "[1297, 250, 250]"), ("(1, 1, 1, 1), value=-1.0", '(1, 1, 1, 1), mode="replicate"')),
    ),
    Scenario(
        "the user notes what a notebook showed, the template edits a cell before",
        notebook(TITLE, LOAD, COUNT, MINE, PLOT),
        notebook(TITLE, SAFE, COUNT, PLOT),
        "clean",
        notebook(TITLE, SAFE, COUNT, MINE, PLOT),
        (),
        notebook(TITLE, LOAD, COUNT, PLOT),
    ),
    trial(
        "clean",
        "the user adds a step to a workflow, the template raises a version",
        CI,
        (("      - name: Test\n", "      - name: Types\n        run: mypy .\n      - name: Test\n"),),
        (("setup-python@v5", "setup-python@v6"),),
        files=WORKFLOW,
    ),
    trial(
        "clean",
        "the user rewrites the introduction and adds results, the template edits the use",
        "README.md",
        (
            (
                "Train a classifier of digits.\n",
                "Our digits, for the paper.\n\n| run | accuracy |\n|---|---|\n| small | 0.981 |\n| large | 0.988 |\n",
            ),
            ("- `model.py`: the network\n", "- `model.py`: the network, ours\n"),
        ),
        (("--resume auto\n", "--resume auto\n    accelerate launch train.py\n"),),
        files=READ,
    ),
    trial(
        "clean",
        "the user moves a class to a new file, the template edits what stays",
        "data.py",
        (
            ("from typing import Any, NamedTuple\n\n", ""),
            (SPLITS, ""),
            ("import Dataset, TensorDataset\n", "import TensorDataset\n\nfrom splits import Splits\n"),
        ),
        (("manual_seed(0)", "manual_seed(1)"),),
        mine={
            "splits.py": "from typing import Any, NamedTuple\n\nfrom torch.utils.data import Dataset\n\n\n"
            + SPLITS.rstrip()
            + "\n",
        },
    ),
    trial(
        "clean",
        "both change one value alike, and each another",
        T,
        (("float = 1e-3", "float = 3e-4"), ("| None = 8", "| None = 20")),
        (("float = 1e-3", "float = 3e-4"), ("keep_last: int = 2", "keep_last: int = 3")),
        (("float = 1e-3", "float = 3e-4"), ("| None = 8", "| None = 20"), ("keep_last: int = 2", "keep_last: int = 3")),
    ),
    trial(
        "clean",
        "the user adds a case to one match, the template edits the last of another",
        "choices.py",
        (
            (
                '        case "sgd":\n',
                '        case "adagrad":\n            return Adagrad(parameters, lr=learning_rate)\n        case "sgd":\n',
            ),
            ("import SGD, AdamW", "import SGD, Adagrad, AdamW"),
        ),
        (('ValueError(f"No schedule {name!r}")', 'KeyError(f"No schedule {name!r}")'),),
        files=CHOICES,
    ),
    trial(
        "clean",
        "the user freezes the Config, the template adds a field",
        T,
        (FROZEN,),
        (
            (
                "AdamW's, for each step and learning rate\n",
                "AdamW's, for each step and learning rate\n    beta2: float = 0.999  # AdamW's\n",
            ),
            ("weight_decay=config.weight_decay)", "weight_decay=config.weight_decay, betas=(0.9, config.beta2))"),
        ),
    ),
    trial(
        "clean",
        "the user gathers arguments in a dictionary, the template edits a statement further on",
        T,
        (
            (
                "        train_loader = run",
                '        options = {"num_workers": config.num_workers, "limit_batches": config.limit_batches}\n        train_loader = run',
            ),
            ("            shuffle=True,\n" + LOADER_ARGUMENTS, "            shuffle=True,\n            **options,\n"),
            (
                "            config.eval_batch_size,\n" + LOADER_ARGUMENTS,
                "            config.eval_batch_size,\n            **options,\n",
            ),
        ),
        (SIZES_THEIRS,),
    ),
]

# --- what lines merge and nobody wants ------------------------------------------------------------------------------------

CONFLICT: list[Scenario] = [
    trial(
        "conflict",
        "the user removes the schedule, the template reads it elsewhere",
        T,
        (
            ("    schedules,\n", ""),
            (SIZES, "\n"),
            ("        schedule = schedules.cosine(optimizer, total_steps, warmup_steps)\n", ""),
            ("            schedule=schedule,\n", ""),
            ("                learning_rate = schedule.get_last_lr()[0]  # of this step\n", ""),
            ("                schedule.step()\n", ""),
            ("learning_rate=learning_rate, ", ""),
        ),
        (('run.log("eval", scores)', 'run.log("eval", scores, learning_rate=schedule.get_last_lr()[0])'),),
    ),
    trial(
        "conflict",
        "the user freezes the Config, the template assigns to a field of it",
        T,
        (FROZEN,),
        (
            (
                "        splits = make_splits()\n",
                "        splits = make_splits()\n        config.num_workers = min(config.num_workers, 8)\n",
            ),
        ),
    ),
    trial(
        "conflict",
        "the user makes a function return a tuple, the template reads its dictionary in a new call",
        T,
        (
            ('-> dict[str, float]:\n    """Return loss', '-> tuple[float, float]:\n    """Return loss'),
            ("    return meter.read()", '    scores = meter.read()\n    return scores["loss"], scores["accuracy"]'),
            ("scores = evaluate(", "loss, accuracy = evaluate("),
            ('run.log("eval", scores)', 'run.log("eval", loss=loss, accuracy=accuracy)'),
            ("keep_best(scores)", 'keep_best({"accuracy": accuracy})'),
        ),
        (
            (
                'save_weights("final")\n',
                'save_weights("final")\n        run.log("final", evaluate(run, model, eval_loader))\n',
            ),
        ),
    ),
    trial(
        "conflict",
        "both give a new local variable one name, for other things",
        T,
        (
            ("        # A step is", "        best = 0.0\n        # A step is"),
            ("keep_best(scores)\n", 'keep_best(scores)\n                    best = max(best, scores["accuracy"])\n'),
        ),
        (
            (
                "        train_meter = Meter(run)\n",
                '        train_meter = Meter(run)\n        best = run.run_dir / "best"\n',
            ),
            ('save_weights("final")\n', 'save_weights("final")\n        print(f"The best weights are in {best}")\n'),
        ),
    ),
    trial(
        "conflict",
        "both add one key at different places of a JSON file",
        "ds.json",
        (('_steps": 4,\n', '_steps": 4,\n  "gradient_clipping": 0.5,\n'),),
        (('  "wall_clock', '  "gradient_clipping": 1.0,\n  "wall_clock'),),
        files=DEEPSPEED,
    ),
    trial(
        "conflict",
        "the user renames a job of a workflow, the template adds one that needs it",
        CI,
        (
            ("  test:\n", "  checks:\n"),
            ("needs: test", "needs: checks"),
        ),
        (
            (
                SUMMARY,
                SUMMARY
                + "  publish:\n    runs-on: ubuntu-latest\n    needs: test\n    steps:\n      - run: ./publish.sh\n",
            ),
        ),
        files=WORKFLOW,
    ),
    trial(
        "conflict",
        "the user asks for arguments by keyword, the template adds a call without",
        "model.py",
        (
            ("def stage(channels: int, width: int)", "def stage(*, channels: int, width: int)"),
            (
                "stage(channels, width), stage(width, 2 * width), stage(2 * width, 4 * width))",
                "*(stage(channels=a, width=b) for a, b in [(channels, width), (width, 2 * width), (2 * width, 4 * width)]))",
            ),
        ),
        (
            (
                "    return ConvNet(channels, num_classes, width)\n",
                "    return ConvNet(channels, num_classes, width)\n\n\ndef make_stem(channels: int, width: int) -> nn.Module:\n    return stage(channels, width)\n",
            ),
        ),
    ),
    trial(
        "conflict",
        "the user exports a function by name, the template renames it",
        "model.py",
        (("from torch import nn\n", 'from torch import nn\n\n__all__ = ["ConvNet", "make_model"]\n'),),
        (("def make_model", "def build_model"),),
        new={T: TRAIN.replace("make_model", "build_model")},
    ),
    trial(
        "conflict",
        "the user imports a class for type checkers only, the template inherits from it",
        "data.py",
        (
            (
                "from typing import Any, NamedTuple\n",
                "from __future__ import annotations\n\nfrom typing import TYPE_CHECKING, Any, NamedTuple\n",
            ),
            (
                "import Dataset, TensorDataset\n",
                "import TensorDataset\n\nif TYPE_CHECKING:\n    from torch.utils.data import Dataset\n",
            ),
        ),
        (("def make_splits", 'class Rolled(Dataset[Any]):\n    """Nothing yet."""\n\n\ndef make_splits'),),
    ),
    trial(
        "conflict",
        "both pin one package at different places, spelled otherwise",
        "requirements.txt",
        (("numpy==1.26.4\n", "numpy==1.26.4\nPillow==10.4.0\n"),),
        (("wandb==0.19.1\n", "wandb==0.19.1\npillow==11.1.0\n"),),
        files=PINS,
    ),
]

TRIAL: list[Scenario] = [*CLEAN, *EITHER, *CONFLICT]
