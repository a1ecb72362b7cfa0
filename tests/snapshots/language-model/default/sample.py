"""Generate text with a trained model.

python sample.py                                      the newest run
python sample.py --prompt "class " --temperature 0.5
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paccel.runtime import ConfigError, exit_with_message, load_config, load_run
import torch
from torch import nn

from evaluate import load_model, load_splits
from train import Config


@dataclass
class SampleConfig:
    """How to generate text."""

    run_dir: Path | None = None  # run to use; None = the newest under runs/
    weights: Literal["best", "final"] = "best"  # best: lowest eval loss; final: at the end of training
    prompt: str = "def "  # start of the text
    num_tokens: int = 400  # tokens to generate
    temperature: float = 0.7  # sampling temperature; 0 = greedy
    top_k: int | None = 40  # sample from the k most likely tokens; None = from all
    seed: int = 0  # random seed of the sampling


@torch.no_grad()
def generate(model: nn.Module, tokens: torch.Tensor, context: int, chosen: SampleConfig) -> torch.Tensor:
    """Append `num_tokens` sampled tokens to `tokens`, shape (tokens,) int64, given the last `context` tokens."""
    generator = torch.Generator().manual_seed(chosen.seed)
    model.eval()
    for _ in range(chosen.num_tokens):
        logits = model(tokens[None, -context:])[0, -1].float()
        if chosen.temperature == 0:
            token = logits.argmax(keepdim=True)
        else:
            if chosen.top_k is not None:
                smallest = logits.topk(min(chosen.top_k, len(logits))).values[-1]
                logits = logits.masked_fill(logits < smallest, -torch.inf)
            token = torch.multinomial((logits / chosen.temperature).softmax(-1), 1, generator=generator)
        tokens = torch.cat([tokens, token])
    return tokens


def main(chosen: SampleConfig) -> str:
    if not chosen.prompt:
        raise ConfigError("`prompt` is empty: give the text a start")
    run_dir, config = load_run(Config, chosen.run_dir)
    model = load_model(config, load_splits(config), run_dir / "weights" / f"{chosen.weights}.safetensors")
    tokens = torch.tensor(list(chosen.prompt.encode()))
    written = generate(model, tokens, config.context, chosen)
    text = bytes(written.tolist()).decode(errors="replace")
    print(text)
    return text


if __name__ == "__main__":
    with exit_with_message():
        main(load_config(SampleConfig))
