"""The network, from transformers."""

from typing import Any

from paccel.runtime import ConfigError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM


def make_model(
    name: str, vocabulary: int, context: int, *, pretrained: bool, checkpoint_activations: bool
) -> nn.Module:
    """Build a causal model that takes tokens (B, L) and returns an object with logits (B, L, vocabulary).

    Args:
        name: A name on the hub, or a folder.
        vocabulary: Tokens that the tokenizer makes; the model's embedding must have room for them.
        context: Tokens that the model will see at once.
        pretrained: Start from its weights, else from random ones.
        checkpoint_activations: Compute each block again in the backward pass, instead of keeping what it computed.
    """
    try:
        settings = AutoConfig.from_pretrained(name)
        limit = getattr(settings, "max_position_embeddings", None)
        if limit is not None and context > limit:
            raise ValueError(f"`context` {context} is longer than its limit: {limit} tokens")
        if vocabulary > settings.vocab_size:
            raise ValueError(f"it knows {settings.vocab_size} tokens, the tokenizer makes {vocabulary}: take its own")
        settings.use_cache = False  # of use in generation only
        if pretrained:
            model = AutoModelForCausalLM.from_pretrained(name, config=settings).float()  # some are kept in bf16
        else:
            model = AutoModelForCausalLM.from_config(settings)
    except (OSError, ValueError) as error:  # there is none of that name, or it is for another task
        raise ConfigError(f"The model `{name}` cannot be used: {error}") from None
    if checkpoint_activations:
        model.gradient_checkpointing_enable()
    return model


def count_flops(model: Any, context: int) -> float:
    """Operations of a forward and backward pass over a row: 6 a token for each weight of a matrix, and attention.

    All of attention's square counts, though half of it is masked. Source: Chowdhery et al. 2022, "PaLM", appendix B.
    """
    matrices = [m.weight for m in model.modules() if getattr(m, "weight", None) is not None and m.weight.dim() == 2]
    weights = sum(w.numel() for w in matrices) - model.get_input_embeddings().weight.numel()  # which is looked up
    return context * (6 * weights + 12 * model.config.num_hidden_layers * model.config.hidden_size * context)
