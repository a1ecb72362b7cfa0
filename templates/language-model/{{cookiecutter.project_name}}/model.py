# % if cookiecutter.data == "huggingface"
"""The model, from transformers."""

from typing import TYPE_CHECKING, Any

from paccel.runtime import ConfigError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

if TYPE_CHECKING:  # train.py imports this file
    from data import Splits
    from train import Config


def make_model(config: "Config", splits: "Splits", pretrained: bool = False) -> nn.Module:
    """Build a causal model that takes tokens (B, L) and returns an object with logits (B, L, vocabulary).

    Its embedding must be at least as large as the vocabulary of the tokenizer.
    """
    name = config.model
    try:
        settings = AutoConfig.from_pretrained(name)
        limit = getattr(settings, "max_position_embeddings", None)
        if limit is not None and config.context > limit:
            raise ValueError(f"`context` {config.context} exceeds its limit of {limit} tokens")
        if splits.vocabulary > settings.vocab_size:
            raise ValueError(f"it has {settings.vocab_size} tokens but the tokenizer {splits.vocabulary}: use its own tokenizer")
        settings.use_cache = False  # only useful for generation
        if pretrained:
            model = AutoModelForCausalLM.from_pretrained(name, config=settings).float()  # some are stored in bf16
        else:
            model = AutoModelForCausalLM.from_config(settings)
    except (OSError, ValueError) as error:  # unknown name, or not a causal language model
        raise ConfigError(f"The model `{name}` cannot be used: {error}") from None
    if config.checkpoint_activations:
        model.gradient_checkpointing_enable()
    return model


def count_flops(model: Any, context: int) -> float:
    """Count FLOPs of a forward and backward pass over one sequence: 6 per token and matrix weight, plus attention.

    Attention counts in full although half of it is masked. Source: Chowdhery et al. 2022, "PaLM", appendix B.
    """
    matrices = [m.weight for m in model.modules() if getattr(m, "weight", None) is not None and m.weight.dim() == 2]
    weights = sum(w.numel() for w in matrices) - model.get_input_embeddings().weight.numel()  # lookups are free
    return context * (6 * weights + 12 * model.config.num_hidden_layers * model.config.hidden_size * context)
# % else
"""The model: a decoder-only transformer. Shapes: B sequences, L tokens, D width, H heads."""

from typing import TYPE_CHECKING

from paccel.runtime import ConfigError
from paccel.runtime.tokens import mask_of
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:  # train.py imports this file
    from data import Splits
    from train import Config


def rotations(length: int, size: int) -> torch.Tensor:
    """Compute cosines and sines of rotary position embeddings. Shape (2, length, size / 2).

    Source: Su et al. 2021, "RoFormer" (arXiv:2104.09864).
    """
    frequencies = 10_000.0 ** (-torch.arange(0, size, 2) / size)
    angles = torch.arange(length)[:, None] * frequencies
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Apply rotary position embeddings to queries or keys (B, H, L, D/H), in float32."""
    cos, sin = rotation
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


class Attention(nn.Module):
    """Causal multi-head attention: (B, L, D) -> (B, L, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor, rotation: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        B, L, D = x.shape
        query, key, value = self.query_key_value(x).view(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        query, key = rotate(query, rotation), rotate(key, rotation)
        # Without a mask: flash attention on a GPU.
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
        return self.out(attended.transpose(1, 2).reshape(B, L, D))


class FeedForward(nn.Module):
    """SwiGLU feed-forward layer: (B, L, D) -> (B, L, D). Source: Shazeer 2020 (arXiv:2002.05202)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 32 * round(width * 8 / 3 / 32)  # as many weights as the usual 4 D with two matrices
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """Pre-norm transformer block: (B, L, D) -> (B, L, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width)
        self.attention = Attention(width, heads)
        self.feed_forward_norm = nn.RMSNorm(width)
        self.feed_forward = FeedForward(width)

    def forward(self, x: torch.Tensor, rotation: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x), rotation, mask)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Transformer(nn.Module):
    """Map tokens (B, L) to the logits of each next token, (B, L, vocabulary).

    With `documents` (B, L), the number of each token's document within its row, documents do not attend to each other.
    Rotary positions are relative, so they need not restart in each document.
    """

    _no_split_modules = ["Block"]  # wrapped as one unit by FSDP with TRANSFORMER_BASED_WRAP

    def __init__(
        self, vocabulary: int, context: int, width: int, depth: int, heads: int, checkpoint_activations: bool
    ) -> None:
        super().__init__()
        self.checkpoint_activations = checkpoint_activations
        self.embedding = nn.Embedding(vocabulary, width)
        blocks = [Block(width, heads) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.rotation: torch.Tensor
        self.register_buffer("rotation", rotations(context, width // heads), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        for block in blocks:  # blocks start as the identity, and all tokens are equally likely
            nn.init.zeros_(block.attention.out.weight)
            nn.init.zeros_(block.feed_forward.down.weight)
        nn.init.zeros_(self.head.weight)

    def forward(self, tokens: torch.Tensor, documents: torch.Tensor | None = None) -> torch.Tensor:
        x = self.embedding(tokens)
        mask = None if documents is None else mask_of(documents)
        # Indexed, not sliced, so that an export keeps the length dynamic even for an example of full length.
        rotation = self.rotation[:, torch.arange(tokens.shape[1], device=tokens.device)]
        for block in self.blocks:
            if self.checkpoint_activations and self.training:
                x = checkpoint(block, x, rotation, mask, use_reentrant=False)
            else:
                x = block(x, rotation, mask)
        return self.head(self.norm(x))


def make_model(config: "Config", splits: "Splits") -> Transformer:
    width, heads = config.width, config.heads
    if width % (2 * heads):
        raise ConfigError(f"`width` {width} is not divisible into {heads} heads of even size")
    return Transformer(splits.vocabulary, config.context, width, config.depth, heads, config.checkpoint_activations)


def count_flops(model: Transformer, context: int) -> float:
    """Count FLOPs of a forward and backward pass over one sequence: 6 per token and matrix weight, plus attention.

    Attention counts in full although half of it is masked. Source: Chowdhery et al. 2022, "PaLM", appendix B.
    """
    weights = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
    return context * (6 * weights + 12 * len(model.blocks) * model.embedding.embedding_dim * context)
# % endif
