"""The model: a transformer encoder. Shapes: B texts, L tokens, D width, H heads."""

from typing import TYPE_CHECKING

from paccel.runtime import ConfigError
import torch
from torch import nn
from torch.nn import functional as F

from tokens import PADDING

if TYPE_CHECKING:  # train.py imports this file
    from data import Splits
    from train import Config


class Block(nn.Module):
    """Pre-norm transformer block: (B, L, D) -> (B, L, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        B, L, D = x.shape
        parts = self.query_key_value(self.attention_norm(x)).view(B, L, 3, self.heads, D // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        x = x + self.out(attended.transpose(1, 2).reshape(B, L, D))
        return x + self.feed_forward(x)


class Transformer(nn.Module):
    """Map tokens (B, L) to logits (B, num_classes): blocks, then mean pooling over the tokens without padding."""

    _no_split_modules = ["Block"]  # wrapped as one unit by FSDP with TRANSFORMER_BASED_WRAP

    def __init__(self, vocabulary: int, max_length: int, num_classes: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(max_length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)
        nn.init.normal_(self.words.weight, std=0.5)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        longest, limit = tokens.shape[1], self.positions.num_embeddings
        if longest > limit:
            raise ValueError(
                f"A text has {longest} tokens but the model takes at most {limit}: truncate it to `max_length`"
            )
        mask = tokens != PADDING
        x = self.words(tokens) + self.positions(torch.arange(longest, device=tokens.device))
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x) * mask[:, :, None]
        return self.head(x.sum(dim=1) / mask.sum(dim=1, keepdim=True))


def make_model(config: "Config", splits: "Splits") -> nn.Module:
    width, heads = config.width, config.heads
    if width % heads:
        raise ConfigError(f"`width` {width} is not divisible by {heads} heads")
    return Transformer(config.vocabulary, config.max_length, splits.num_classes, width, config.depth, heads)
