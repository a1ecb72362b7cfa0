"""Train the network."""

from dataclasses import dataclass

from data import load
from metrics import scores
from model import make_network
from utils import seed_everything


@dataclass
class Config:
    """Settings of a run."""

    epochs: int = 2
    batch_size: int = 4
    width: int = 8
    seed: int = 0


def train_epoch(network, batches: list[list[float]]) -> dict[str, float]:
    """One pass over the data."""
    logits: list[float] = []
    for batch in batches:
        logits += network.forward(batch).logits
    return scores(logits)


def main(config: Config) -> None:
    """Train as the config says."""
    seed_everything(config.seed)
    batches = load("train", config.batch_size)
    network = make_network(config.width)
    for epoch in range(config.epochs):
        result = train_epoch(network, batches)
        print(f"epoch {epoch + 1}: {result['loss']:.3f}")


if __name__ == "__main__":
    main(Config())
