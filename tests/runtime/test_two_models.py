"""Two models, two optimizers and several losses in one loop: a critic and a generator, on any hardware."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support.quick import quick_first
from support.together import together
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from paccel.runtime import Checkpoints, Meter, Run, schedules


@dataclass
class Config:
    """What a run reads."""

    run_dir: Path
    resume: str = "never"


class Critic(nn.Module):
    """Two outputs: how real a sample looks, and of which class it is."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.real, self.kind = nn.Linear(2, 8), nn.Linear(8, 1), nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.body(inputs).tanh()
        return self.real(hidden).squeeze(-1), self.kind(hidden)


def train(
    run_dir: str, resume: str, stop_at: int, accumulate: int
) -> tuple[list[torch.Tensor], list[dict[str, float]]]:
    """Train on 21 samples, 4 to a step; the weights, and what was logged. The noise belongs to the data."""
    logged: list[dict[str, float]] = []
    random = torch.Generator().manual_seed(0)
    inputs, noise = torch.randn(2, 21, 2, dtype=torch.float64, generator=random)
    kinds = torch.arange(21) % 3
    try:
        with Run(Config(Path(run_dir), resume)) as run:
            loader = run.loader(TensorDataset(inputs, noise, kinds), 4, shuffle=True)
            critic, generator = Critic().double(), nn.Linear(2, 2).double()
            critic_optimizer = torch.optim.AdamW(critic.parameters(), lr=0.05)
            generator_optimizer = torch.optim.SGD(generator.parameters(), lr=0.05, momentum=0.9)
            critic, critic_optimizer = run.prepare(critic, critic_optimizer)
            generator, generator_optimizer = run.prepare(generator, generator_optimizer)
            inner = run.accelerator.unwrap_model(critic)  # its gradients are not exchanged where it only judges
            schedule = schedules.cosine(critic_optimizer, 12)
            meter = Meter(run)
            tracked: dict[str, Any] = {"critic": critic, "generator": generator, "schedule": schedule, "meter": meter}
            tracked |= {"critic_optimizer": critic_optimizer, "generator_optimizer": generator_optimizer}
            checkpoints = Checkpoints(run, **tracked)
            checkpoints.restore()
            for _ in run.epochs(2):
                for step in run.steps(loader, accumulate, passes=2):
                    for real, code, kind in step:
                        with torch.no_grad():
                            fake = generator(code)
                        score, classes = critic(torch.cat([real, fake]))
                        told = nn.functional.softplus(torch.cat([-score[: len(real)], score[len(real) :]])).sum()
                        named = nn.functional.cross_entropy(classes[: len(real)], kind, reduction="sum")
                        run.backward((told + 0.5 * named) / step.num_samples)
                        meter.add(critic=told, kind=named, count=step.micro_batch_samples)
                    run.clip_grad_norm(critic, 1.0)
                    critic_optimizer.step()
                    critic_optimizer.zero_grad()
                    schedule.step()
                    critic.requires_grad_(False)
                    for _, code, _ in step:
                        fooled = nn.functional.softplus(-inner(generator(code))[0]).sum()
                        run.backward(fooled / step.num_samples)
                        meter.add(generator=fooled, count=step.micro_batch_samples)
                    critic.requires_grad_(True)
                    run.clip_grad_norm(generator, 1.0)
                    generator_optimizer.step()
                    generator_optimizer.zero_grad()
                    logged.append(meter.read())
                    if step.number == stop_at:
                        checkpoints.save()
                        raise run.stopped()
    except SystemExit:
        pass
    return [p.detach() for p in (*critic.parameters(), *generator.parameters())], logged


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_weights_and_losses_are_those_of_one_process_without_accumulation(tmp_path: Path) -> None:
    ((weights, logged),) = together(train, tmp_path, "straight", "never", 0, 1, processes=1)
    assert len(logged) == 12
    assert all(set(line) == {"critic", "kind", "generator"} for line in logged)
    for processes, accumulate in ((1, 2), (1, 4), (2, 1), (2, 2), (2, 4)):
        results = together(train, tmp_path, f"{processes}-{accumulate}", "never", 0, accumulate, processes=processes)
        for ours, ours_logged in results:
            for left, right in zip(ours, weights, strict=True):
                torch.testing.assert_close(left, right, rtol=0, atol=1e-12)
            for line, expected in zip(ours_logged, logged, strict=True):
                assert line == pytest.approx(expected, rel=1e-10)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The weights and the logged numbers of a run that nothing stopped."""
    return together(train, tmp_path_factory.mktemp("straight"), "straight", "never", 0, 2, processes=1)


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [3, 6, 7])
def test_stopped_and_resumed_it_ends_bit_for_bit_the_same(straight: Any, tmp_path: Path, stop_at: int) -> None:
    ((weights, logged),) = straight
    ((_, first),) = together(train, tmp_path, "run", "never", stop_at, 2, processes=1)
    ((ours, second),) = together(train, tmp_path, "run", "auto", 0, 2, processes=1)
    assert first + second == logged
    assert all(torch.equal(left, right) for left, right in zip(ours, weights, strict=True))


@pytest.mark.parametrize("options", [{}, {"passes": 2}, {"num_workers": 2}], ids=str)
@pytest.mark.parametrize("is_stream", quick_first([False, True]))
def test_a_step_is_iterated_as_often_as_one_likes(tmp_path: Path, options: dict[str, Any], is_stream: bool) -> None:
    data = Rows() if is_stream else Noisy()
    passes, seen = options.pop("passes", 1), []
    with Run(Config(tmp_path / "run")) as run:
        loader = run.loader(data, 4, **options, multiprocessing_context="fork")
        for _ in run.epochs(1):
            for step in run.steps(loader, accumulate=2, passes=passes):
                for _ in range(3):
                    seen.append([(repr(batch), torch.rand(()).item(), batch[0].zero_()) for batch in step])
                again = [(repr(batch), torch.rand(()).item()) for batch in step.replay()]
                assert again == [(batch, drawn) for batch, drawn, _ in seen[-3]]  # its draws are those of the first
    assert len(seen) == 6
    for passes_of_step in (seen[:3], seen[3:]):
        batches = [[batch for batch, *_ in one_pass] for one_pass in passes_of_step]
        assert batches[0] == batches[1] == batches[2], "what is changed in place in one pass is as it was in the next"
    assert len({drawn for one_pass in seen for _, drawn, _ in one_pass}) == 12  # each pass has randomness of its own


class Rows(IterableDataset):
    """A stream of eight samples."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        return iter([(torch.tensor(float(i)), torch.rand(2)) for i in range(8)])


class Noisy(Dataset):
    """Eight samples with noise from the global generators."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        return torch.tensor(float(index)), torch.rand(2)
