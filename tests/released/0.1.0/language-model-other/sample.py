"""Let a trained model write on.

python sample.py                                      the newest run
python sample.py --prompt "class " --temperature 0.5
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paccel.runtime import ConfigError, load_config, load_run
import torch
from torch import nn
from transformers import AutoTokenizer

from evaluate import load_model, load_splits
from train import Config


@dataclass
class SampleConfig:
    """What to write, and how boldly."""

    run_dir: Path | None = None  # the run; None is the newest one under runs/
    weights: Literal["best", "final"] = "best"  # the best by eval loss, or those at the end
    prompt: str = "The "  # what the text begins with
    num_tokens: int = 100  # to write
    temperature: float = 0.7  # below 1 the likely becomes likelier; 0 is always the likeliest
    top_k: int | None = 40  # choose among so many of the likeliest tokens; None is among all
    seed: int = 0  # of the choices


@torch.no_grad()
def generate(model: nn.Module, tokens: torch.Tensor, context: int, chosen: SampleConfig) -> torch.Tensor:
    """Append `num_tokens` tokens to those given, shape (tokens,) int64, each from the `context` tokens before it."""
    generator = torch.Generator().manual_seed(chosen.seed)
    model.eval()
    for _ in range(chosen.num_tokens):
        logits = model(tokens[None, -context:]).logits[0, -1].float()
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
        raise ConfigError("`prompt` is empty: give the model something to begin with")
    run_dir, config = load_run(Config, chosen.run_dir)
    model = load_model(config, load_splits(config), run_dir / "weights" / f"{chosen.weights}.safetensors")
    words = AutoTokenizer.from_pretrained(config.model)
    tokens = torch.tensor(words(chosen.prompt)["input_ids"])
    text = str(words.decode(generate(model, tokens, config.context, chosen)))
    print(text)
    return text


if __name__ == "__main__":
    main(load_config(SampleConfig))
