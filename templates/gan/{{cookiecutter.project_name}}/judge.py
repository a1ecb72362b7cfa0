"""Scores for generated images: a small classifier of real images, and a distance between its features."""

from accelerate.utils import broadcast
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

STEPS, BATCH_SIZE, LEARNING_RATE = 300, 128, 3e-3  # for training the classifier, which takes seconds
FEATURES = 32


class Judge(nn.Module):
    """A convolutional classifier that also returns its features."""

    def __init__(self, channels: int, num_classes: int, image_size: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GroupNorm(8, 64),
            nn.SiLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(64 * (image_size // 4) ** 2, FEATURES),
            nn.LayerNorm(FEATURES),  # so that distances are comparable between datasets
        )
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(FEATURES, num_classes))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map images (B, C, S, S) to features (B, FEATURES) and logits (B, classes)."""
        features = self.features(images)
        return features, self.head(features)


def train_judge(real: TensorDataset, num_classes: int, device: torch.device) -> Judge:
    """Train a classifier of the real images, the same one in every run: it has a fixed seed. Collective."""
    images, labels = (tensor.to(device) for tensor in real.tensors)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        judge = Judge(images.shape[1], num_classes, images.shape[-1]).to(device)
        optimizer = torch.optim.AdamW(judge.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for _ in range(STEPS):
            chosen = torch.randint(len(labels), (BATCH_SIZE,), device=device)
            noisy = images[chosen] + 0.1 * torch.randn_like(images[chosen])
            F.cross_entropy(judge(noisy)[1], labels[chosen]).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    broadcast(judge.state_dict())  # from the main process, so that all processes use the same judge
    return judge.eval().requires_grad_(False)


def frechet_distance(features: torch.Tensor, others: torch.Tensor) -> float:
    """Compute the Fréchet distance between Gaussians fitted to two sets of features, shapes (any, FEATURES).

    It is 0 if means and covariances are equal. The Fréchet Inception Distance is the same with features of the
    Inception network. Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6.
    """
    first, second = features.double(), others.double()
    first_cov, second_cov = torch.cov(first.T), torch.cov(second.T)
    values, vectors = torch.linalg.eigh(first_cov)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # the trace below is that of (first_cov second_cov)^½
    overlap = torch.linalg.eigvalsh(root @ second_cov @ root).clamp(min=0).sqrt().sum()
    shift = (first.mean(0) - second.mean(0)).square().sum()
    return float(shift + first_cov.trace() + second_cov.trace() - 2 * overlap)
