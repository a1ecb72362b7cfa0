"""From texts to tokens, by the tokenizer of a model. Shapes: B texts, L tokens."""

from typing import Any

from paccel.runtime import ConfigError
import torch
from torch.utils.data import Dataset
from transformers import AutoTokenizer

from data import Sample


class Tokens(Dataset[Any]):
    """Encoded samples: what the tokenizer makes of the texts, a dict of lists, and the label.

    Args:
        samples: Texts and labels.
        tokenizer: Of the model.
        max_length: Tokens of a text that are kept.
    """

    def __init__(self, samples: list[Sample], tokenizer: Any, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.encoded = [tokenizer(*texts, truncation=True, max_length=max_length) for texts, _ in samples]
        self.labels = [label for _, label in samples]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.encoded[index], self.labels[index]

    def collate(self, samples: list[tuple[Any, int]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """What the model takes, each (B, L) and padded to the longest text among them, and labels (B,)."""
        encoded, labels = zip(*samples, strict=True)
        return dict(self.tokenizer.pad(list(encoded), return_tensors="pt")), torch.tensor(labels)


def make_tokenizer(name: str, max_length: int) -> Any:
    """Load a model's tokenizer by a name on the hub, or from a folder."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:  # there is none of that name
        raise ConfigError(f"The tokenizer of `{name}` cannot be loaded: {error}") from None
    if max_length > tokenizer.model_max_length:
        raise ConfigError(
            f"`max_length` {max_length} is longer than the limit of `{name}`: {tokenizer.model_max_length} tokens"
        )
    return tokenizer
