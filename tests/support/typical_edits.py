"""Typical edits of a project of 0.1.0, one set for each template."""

import re
from pathlib import Path

Edit = tuple[str, str, str]  # file, pattern, replacement

EVERYWHERE: list[Edit] = [
    ("train.py", r"(?<=    learning_rate: float = )\S+", "0.0123"),
    ("train.py", r"(?<=learning_rate: float = )(.*\n)", r"\1    momentum: float = 0.9\n"),
    (
        "train.py",
        r"(                optimizer|generator_optimizer)\.zero_grad\(\)\n",
        r"\g<0>                count_steps()\n",
    ),
    ("train.py", r"        train_meter = Meter\(run\)\n", r"\g<0>        other_meter = Meter(run)\n"),
    ("pyproject.toml", r'    "torch>=2.6",\n', r'\g<0>    "einops>=0.8",\n'),
    ("README.md", r"## Upgrading\n", r"## Mine\n\nAsk me.\n\n\g<0>"),
]
ACCURACY: Edit = ("train.py", r"accuracy=", "confidence=logits.softmax(-1).amax(-1).sum(), accuracy=")  # a metric
SILU: Edit = ("model.py", r"(?s)^(.*?)nn\.SiLU\(\)", r"\1nn.GELU()")  # a line of the model
OWN: dict[str, list[Edit]] = {
    "fine-tuning": [ACCURACY, ("model.py", r"isinstance\(child, nn\.Sequential \| ", r"\g<0>Stage | ")],
    "gan": [("train.py", r"(?<=meter\.add\()accuracy=", "samples=len(labels), accuracy="), SILU],
    "image-classification": [ACCURACY, SILU],
    "image-segmentation": [("train.py", r", accuracy=", ", correct=(predicted == truth).sum(), accuracy="), SILU],
    "language-model": [("train.py", r'"bits_per_byte": ', r'"nats": loss, \g<0>'), ("model.py", r"F\.silu", "F.gelu")],
    "minimal": [ACCURACY, ("train.py", r"nn\.Linear\(64, 128\), nn\.ReLU", "nn.Linear(64, 128), nn.GELU")],
    "object-detection": [("train.py", r'"map_75"', r'"map_75", "mar_100"'), SILU],
    "tabular": [("train.py", r"error=error, ", r"\g<0>bias=(predictions - targets).sum(), "), SILU],
    "text-classification": [ACCURACY, ("model.py", r"nn\.GELU\(\)", "nn.ReLU()")],
}


def edit(root: Path, edits: list[Edit]) -> None:
    for path, pattern, replacement in edits:
        text, count = re.subn(pattern, replacement, (root / path).read_text())
        assert count == 1, (path, pattern, count)
        (root / path).write_text(text)
