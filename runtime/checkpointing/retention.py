"""Which checkpoints and best weights stay on disk."""

import re
from collections.abc import Collection
from pathlib import Path

from ..storage.checkpoint import list_checkpoints, remove_checkpoint, remove_leftovers
from ..storage.weights import remove_weights

_BEST_OF_STEP = re.compile(r"best-(\d+)(-.*)?(\.safetensors)?")


class Retention:
    """Removes old checkpoints, and weights that are no longer among the best. Only the main process does.

    Args:
        checkpoints: The folder of the checkpoints.
        weights: The folder of the weights.
        keep_last: How many of the newest checkpoints stay.
        keep: Steps whose checkpoints stay as well.
    """

    def __init__(self, checkpoints: Path, weights: Path, keep_last: int, keep: Collection[int]) -> None:
        self._checkpoints, self._weights = checkpoints, weights
        self._keep_last, self._keep = keep_last, frozenset(keep)

    def prune(self, best_steps: Collection[int]) -> None:
        """Remove the checkpoints and the best weights that are not to stay."""
        for step, path in list_checkpoints(self._checkpoints)[self._keep_last :]:
            if step not in self._keep:
                remove_checkpoint(path)
        # Last, so that a run that resumes from an older checkpoint still finds its best weights
        for path in self._weights.glob("best-*"):
            match = _BEST_OF_STEP.fullmatch(path.name)
            if match and int(match[1]) not in best_steps:
                remove_weights(path)

    def clean_up(self, restored: Path, best_steps: Collection[int]) -> None:
        """Remove what a killed process left: half-written files, and old checkpoints that it had not pruned yet."""
        for folder in (self._checkpoints, self._weights):
            remove_leftovers(folder)
        found = list_checkpoints(self._checkpoints)
        if found and found[0][1] == restored:  # the newest is valid, so no older one is needed
            self.prune(best_steps)
