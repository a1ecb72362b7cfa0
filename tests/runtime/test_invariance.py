"""World-size invariance: the same samples, weights and logged numbers on any number of processes and micro-batches."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.quick import quick_first


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reference")


def weights(run_dir: Path, name: str = "final") -> dict[str, torch.Tensor]:
    return load_file(run_dir / "weights" / f"{name}.safetensors")


HARDWARE = [(1, 2), (1, 4), (2, 1), (2, 2), (2, 4)]
CASES = [(data, *hardware) for data in ("tensors", "tokens") for hardware in HARDWARE]
CASES += [("sparse", 1, 4), ("sparse", 2, 4)]  # one sample to a micro-batch, and a fifth of them without a token


@pytest.mark.parametrize(("data", "processes", "accumulate"), quick_first(CASES))
def test_weights_order_and_losses_do_not_depend_on_the_hardware(
    start, metrics, order, reference: Path, tmp_path: Path, data: str, processes: int, accumulate: int
) -> None:
    straight = reference / data
    if not straight.exists():
        done = start(straight, data=data)
        assert done.returncode == 0, done.stderr
    run_dir = tmp_path / "run"
    done = start(run_dir, processes=processes, data=data, accumulate=accumulate)
    assert done.returncode == 0, done.stderr

    assert order(run_dir) == order(straight)
    for name in ("final", "best"):
        for ours, theirs in zip(weights(run_dir, name).values(), weights(straight, name).values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for ours, theirs in zip(metrics(run_dir), metrics(straight), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-10)


@pytest.mark.slow
def test_an_epoch_holds_every_sample_once_in_an_order_of_its_own(start, order, tmp_path: Path) -> None:
    done = start(tmp_path / "run", epochs=2)
    assert done.returncode == 0, done.stderr
    steps = order(tmp_path / "run")
    first, second = ([i for s in range(a, a + 6) for i in steps[s]] for a in (1, 7))
    assert sorted(first) == sorted(second) == list(range(43))
    assert first != second
