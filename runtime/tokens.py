"""Rows of tokens for language models, cut from token files, and the masks and positions of packed documents."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from .data.token_files import Tokens, files_of, tokenized, write_tokens
from .errors import ConfigError, DataError

__all__ = ["PADDING", "Rows", "Tokens", "files_of", "mask_of", "positions_of", "tokenized", "write_tokens"]

PADDING = -1  # a target that is not predicted: `F.cross_entropy(…, ignore_index=PADDING)`


class Rows(Dataset[tuple[torch.Tensor, ...]]):
    """Rows of `context` tokens: documents are packed end to end, and each token but the first is predicted once.

    A sample is `(inputs, targets)`: int32 and int64, shape (context,). Targets are the inputs shifted by one. The end of
    the last row is filled with `PADDING` in the targets and 0 in the inputs.

    With `documents=True` a sample is `(inputs, targets, documents)`. The last is the number of each input's document
    within the row, counted from 0, int32: `positions_of` and `mask_of` turn it into position ids and the attention mask, so
    that no document sees another. The first token of each document is then no target.

    Args:
        tokens: From `tokenized` or `Tokens`.
        context: Tokens per row.
        documents: Whether to keep documents apart.

    Raises:
        ConfigError: `context` is below 1.
        DataError: There is only one token.
    """

    def __init__(self, tokens: Tokens, context: int, *, documents: bool = False) -> None:
        if context < 1:
            raise ConfigError(f"`context` must be at least 1, not {context}")
        if tokens.num_tokens < 2:
            raise DataError(f"`{tokens.folder}` has a single token, so there is none to predict")
        self.tokens, self.context, self.documents = tokens, context, documents
        self.content_hash = f"{tokens.content_hash} {context} {documents}"

    def __len__(self) -> int:
        return -(-(self.tokens.num_tokens - 1) // self.context)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return self.__getitems__([index % len(self)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, ...]]:
        self.tokens.check_unchanged()
        context, array = self.context, self.tokens.array
        rows = np.full((len(indices), context + 1), PADDING, np.int64)
        for row, index in zip(rows, indices, strict=True):
            found = array[index * context : (index + 1) * context + 1]
            row[: len(found)] = found
        inputs = torch.from_numpy(rows[:, :-1].clip(min=0).astype(np.int32))
        targets = torch.from_numpy(rows[:, 1:])
        if not self.documents:
            return list(zip(inputs, targets, strict=True))
        numbers = torch.from_numpy(self._documents_of(indices))
        targets = targets.masked_fill(numbers[:, 1:] != numbers[:, :-1], PADDING)
        return list(zip(inputs, targets, numbers[:, :-1], strict=True))

    def _documents_of(self, indices: Sequence[int]) -> npt.NDArray[np.int32]:
        """The number of each token's document within its row, counted from 0. Shape (rows, context + 1)."""
        first = np.asarray(indices, np.int64) * self.context
        starts = self.tokens.starts
        left, right = (np.searchsorted(starts, first + end, "right") for end in (0, self.context))
        begins = np.zeros((len(first), self.context + 1), np.int32)
        for row, begin, a, b in zip(begins, first, left, right, strict=True):
            row[starts[a:b] - begin] = 1
        return begins.cumsum(1, dtype=np.int32)


def positions_of(documents: torch.Tensor) -> torch.Tensor:
    """Position ids that restart at 0 in each document of a row. Shape (B, L), like `documents`, int64.

    They also start at 0 for a document that continues from the row before.
    """
    places = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return places - places.masked_fill(~begins, 0).cummax(1).values


def mask_of(documents: torch.Tensor) -> torch.Tensor:
    """The causal attention mask in which no document sees another: True where a query attends to a key.

    Args:
        documents: Shape (B, L).

    Returns:
        Shape (B, 1, L, L), bool: `attn_mask` of `F.scaled_dot_product_attention`.
    """
    length = documents.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
    return (documents[:, None, :, None] == documents[:, None, None, :]) & causal
