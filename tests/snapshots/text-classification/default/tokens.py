"""Tokenization: lower-case words, hashed into the vocabulary. Shapes: B texts, L tokens."""

import re
from typing import Any
import zlib

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from data import Sample

PADDING, SEPARATOR = 0, 1  # special tokens: after a short text, and before each text


def encode(texts: tuple[str, ...], vocabulary: int, max_length: int) -> torch.Tensor:
    """Tokenize one text or a pair. Shape (L,), int64; L is in 1 to `max_length`.

    A word's token is its checksum modulo the vocabulary size: no vocabulary file is needed, and a few words collide.
    """
    tokens = []
    for text in texts:
        spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)  # camelCase is two words
        words = re.findall(r"[^\W\d_]+|\d|[^\w\s]", spaced.lower())
        tokens += [SEPARATOR] + [SEPARATOR + 1 + zlib.crc32(word.encode()) % (vocabulary - 2) for word in words]
    return torch.tensor(tokens[:max_length])


class Tokens(Dataset[Any]):
    """Tokenized samples: tokens (L,) int64 and the label.

    Args:
        samples: Texts and labels.
        vocabulary: Vocabulary size.
        max_length: Maximum tokens per text; the rest is truncated.
        word_dropout: Fraction of words dropped at random, different ones each time. The choice is a function of
            (seed, epoch, sample), so it is the same on any number of processes and after a resume.
    """

    def __init__(self, samples: list[Sample], vocabulary: int, max_length: int, word_dropout: float = 0.0) -> None:
        self.tokens = [encode(texts, vocabulary, max_length) for texts, _ in samples]
        self.labels = [label for _, label in samples]
        self.word_dropout = word_dropout

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        tokens = self.tokens[index]
        if self.word_dropout:
            tokens = tokens[(torch.rand(len(tokens)) >= self.word_dropout) | (tokens == SEPARATOR)]
        return tokens, self.labels[index]


def collate(samples: list[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Batch tokens (B, L), padded to the longest text, and labels (B,)."""
    tokens, labels = zip(*samples, strict=True)
    return pad_sequence(list(tokens), batch_first=True, padding_value=PADDING), torch.tensor(labels)
