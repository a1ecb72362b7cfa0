"""The network, from transformers."""

from paccel.runtime import ConfigError
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification


def make_model(name: str, num_classes: int, max_length: int, pretrained: bool = False) -> nn.Module:
    """Build a classifier that takes what its tokenizer makes and returns an object with logits (B, num_classes).

    Args:
        name: A name on the hub, or a folder.
        num_classes: Of the new last layer.
        max_length: Tokens of a text, at most.
        pretrained: Start from its weights, else from random ones.
    """
    try:
        settings = AutoConfig.from_pretrained(name, num_labels=num_classes)
        limit = getattr(settings, "max_position_embeddings", None)
        if limit is not None and max_length > limit:
            raise ValueError(f"`max_length` {max_length} is longer than its limit: {limit} tokens")
        if pretrained:
            # In float32, which some are not kept in; a last layer for other classes is left behind.
            return AutoModelForSequenceClassification.from_pretrained(
                name, config=settings, ignore_mismatched_sizes=True
            ).float()
        return AutoModelForSequenceClassification.from_config(settings)
    except (OSError, ValueError) as error:  # there is none of that name, or it classifies no texts
        raise ConfigError(f"The model `{name}` cannot be used: {error}") from None
