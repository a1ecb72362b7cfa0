"""Other uses of DeepSpeed's engine, each a function that every process of a launch calls."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paccel.runtime import EMA, Checkpoints, ConfigError, Meter, Run, load_weights
from support.on_device import Config, Noisy


class Tied(nn.Module):
    """One matrix for embedding and output layer, as in a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.middle, self.head = nn.Embedding(8, 6), nn.Linear(6, 6), nn.Linear(6, 8, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        logits: Tensor = self.head(self.middle(self.embedding(words)).tanh())
        return logits


def train_tied(config: Config, freeze: bool = False) -> dict[str, Any]:
    """Train it in two parameter groups; returns whether the embedding and the head are still tied."""
    with Run(config) as run:
        torch.manual_seed(0)
        model: Any = Tied()
        model.middle.weight.requires_grad_(not freeze)
        biases = [p for p in model.parameters() if p.dim() == 1]
        matrices = [p for p in model.parameters() if p.dim() > 1]
        groups = [{"params": biases, "weight_decay": 0.0}, {"params": matrices}]
        optimizer: Any = torch.optim.AdamW(groups, lr=0.02)
        model, optimizer = run.prepare(model, optimizer)
        loader = run.loader(TensorDataset(torch.arange(32) % 8), 8, shuffle=True)
        checkpoints = Checkpoints(run, model=model, optimizer=optimizer)
        start = checkpoints.restore()
        for _ in run.epochs(None, config.max_steps):
            for step in run.steps(loader):
                for (words,) in step:
                    loss = nn.functional.cross_entropy(model(words), (words + 1) % 8, reduction="sum")
                    run.backward(loss / step.num_samples)
                run.clip_grad_norm(model, 0.5)
                optimizer.step()
                optimizer.zero_grad()
        checkpoints.save()
        checkpoints.save_weights("final")
        inner = run.accelerator.unwrap_model(model)
        tied, error = inner.head.weight is inner.embedding.weight, ""
        try:
            EMA(model)
        except ConfigError as refused:
            error = str(refused)
        return {"start": start, "tied": tied, "error": error}


def train_frozen(config: Config) -> dict[str, Any]:
    """Train it with a frozen matrix in one of the groups."""
    return train_tied(config, freeze=True)


def evaluate(config: Config) -> dict[str, Any]:
    """Like `evaluate.py`: load weights from a file into a model without an optimizer."""
    with Run(config, record=False) as run:
        model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(32, 1))
        load_weights(config.run_dir / "weights" / "final.safetensors", model)
        meter, loader = Meter(run), run.loader(TensorDataset(torch.stack([Noisy()[i][0] for i in range(9)])), 4)
        with run.evaluating(run.prepare(model)) as evaluated:
            for (inputs,) in run.batches(loader):
                meter.add(output=evaluated(inputs).float().square().sum(), count=len(inputs))
        return {"device": str(run.device), **meter.read()}


def two_runs(config: Config) -> dict[str, Any]:
    """Two runs, one after the other in one process, as in a notebook."""
    first = train_tied(config)
    config.run_dir = Path(f"{config.run_dir}-second")
    return {"first": first, "second": train_tied(config)}
