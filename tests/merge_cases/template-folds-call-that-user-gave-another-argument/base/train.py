"""Train a digit classifier."""

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
    optimizer = SGD(
        model.parameters(),
        lr=config.learning_rate,
    )
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
