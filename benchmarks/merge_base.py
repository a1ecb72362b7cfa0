"""The project that every merge scenario starts from, and the words in which edits of it are written."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Mode:
    """An executable file."""

    content: str


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


Content = str | bytes | Mode | Link | None
"""What a path holds; None: nothing."""

TRAIN = '''"""Train a digit classifier."""

import argparse
import random
from dataclasses import dataclass

from data import load_digits
from model import Classifier, count_parameters
from torch.nn.functional import cross_entropy
from torch.optim import SGD


@dataclass
class Config:
    """Settings of a run."""

    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 0.001
    momentum: float = 0.9
    seed: int = 0
    verbose: bool = False


def compute_loss(model, batch):
    """The mean loss of a batch."""
    images, labels = batch
    logits = model(images)
    return cross_entropy(logits, labels)


def accuracy(model, loader):
    """The share of right answers."""
    right = total = 0
    for images, labels in loader:
        answers = model(images).argmax(dim=1)
        right += (answers == labels).sum().item()
        total += len(labels)
    return right / total


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=Config.epochs)
    args = parser.parse_args()
    config = Config(epochs=args.epochs)
    random.seed(config.seed)
    train_loader, eval_loader = load_digits(config.batch_size)
    model = Classifier(width=128, depth=2)
    print(count_parameters(model))
    if config.verbose:
        print(model)
    optimizer = SGD(model.parameters(), lr=config.learning_rate, momentum=config.momentum)
    for epoch in range(config.epochs):
        model.train()
        for batch in train_loader:
            loss = compute_loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        score = accuracy(model, eval_loader)
        print(f"epoch {epoch + 1}: {score:.3f}")


if __name__ == "__main__":
    main()
'''

BASE: dict[str, Content] = {
    "train.py": TRAIN,
    "model.py": '''"""The model."""

from torch import nn


class Classifier(nn.Module):
    """A perceptron."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        layers = [nn.Linear(64, width), nn.ReLU()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, 10)

    def forward(self, images):
        """Logits of a batch of images."""
        features = self.body(images.flatten(1))
        return self.head(features)


def count_parameters(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(p.numel() for p in model.parameters())
''',
    "data.py": '''"""The data."""


def load_digits(batch_size: int = 64):
    """Loaders for training and evaluation."""
    from loaders import make

    return make("train", batch_size), make("eval", batch_size)
''',
    "utils.py": '''"""Small things."""

import random


def seed_everything(seed: int = 0) -> None:
    """Make a run repeatable."""
    random.seed(seed)


def in_millions(total: int) -> str:
    """A count that a person can read."""
    return f"{total / 1e6:.1f} M"
''',
    "pyproject.toml": """[project]
name = "digits"
version = "0.1.0"
dependencies = [
    "numpy>=1.26",
    "torch>=2.6",
]

[tool.demo]
select = ["E", "F"]
level = 1
""",
    "requirements.txt": "numpy>=1.26\ntorch>=2.6\n",
    ".gitignore": "__pycache__/\nruns/\n",
    "README.md": "# Digits\n\nTrain digits.\n\n## Use\n\n    python train.py\n",
    "run.sh": "set -e\npython train.py\n",
    "config.yaml": "data:\n  size: 8\n  workers: 2\nmodel:\n  width: 128\n",
    "notes.ipynb": '{\n  "cells": [],\n  "nbformat": 4,\n  "nbformat_minor": 5\n}\n',
    "logo.bin": b"\0\1OLD",
}


def text(path: str) -> str:
    """The text of a file of `BASE`."""
    content = BASE[path]
    assert isinstance(content, str)
    return content


def edit(source: str, *edits: tuple[str, str]) -> str:
    """`source` with each old text, which must be in it exactly once, replaced by the new one."""
    for old, new in edits:
        assert source.count(old) == 1, f"{old!r} is {source.count(old)} times in the text"
        source = source.replace(old, new)
    return source


def add_after(line: str, new: str) -> tuple[str, str]:
    """The edit that inserts `new` after `line`."""
    return line, line + new


@dataclass(frozen=True)
class State:
    """A file as it lies on the disk; of a link, its target."""

    content: bytes
    kind: Literal["file", "executable", "link"]


@dataclass(frozen=True)
class Result:
    """What a tool left behind.

    Attributes:
        files: Every file of the project, the tool's own included, git's not.
        exit_code: Of the upgrade.
        traceback: Whether it ended in one.
        unmerged: Whether git's index holds unmerged paths.
        own: Files and folders that belong to the tool.
    """

    files: Mapping[str, State]
    exit_code: int = 0
    traceback: bool = False
    unmerged: bool = False
    own: tuple[str, ...] = ()

    def is_own(self, path: str) -> bool:
        return any(path == own or path.startswith(own + "/") for own in self.own)


def whole(base: Mapping[str, Content], changes: Mapping[str, Content]) -> dict[str, Content]:
    """The whole project, `BASE` changed by `base` and then by `changes`."""
    return {path: content for path, content in {**BASE, **base, **changes}.items() if content is not None}


def state_of(content: Content) -> State:
    """How a content lies on the disk."""
    if isinstance(content, Link):
        return State(content.target.encode(), "link")
    if isinstance(content, Mode):
        return State(content.content.encode(), "executable")
    assert content is not None
    return State(content if isinstance(content, bytes) else content.encode(), "file")


def read_project(root: Path) -> dict[str, State]:
    """Every file below `root` but git's."""
    files: dict[str, State] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name.startswith(".git/") or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink():
            files[name] = State(os.readlink(path).encode(), "link")
        else:
            files[name] = State(path.read_bytes(), "executable" if path.stat().st_mode & 0o100 else "file")
    return files


def write_project(root: Path, before: Mapping[str, Content], after: Mapping[str, Content]) -> None:
    """Make the files of `before`, which lie below `root`, those of `after`."""
    for path in before:
        if path not in after:
            (root / path).unlink()
            parent = (root / path).parent
            if parent != root and not any(parent.iterdir()):
                parent.rmdir()
    for path, content in after.items():
        if path in before and before[path] == content:
            continue
        target, state = root / path, state_of(content)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if state.kind == "link":
            target.symlink_to(state.content.decode())
        else:
            target.write_bytes(state.content)
            target.chmod(0o755 if state.kind == "executable" else 0o644)
