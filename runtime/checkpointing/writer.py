"""Writing checkpoints and weights, while training waits or in the background."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..hardware.agreement import Agreement
from ..storage.background import Background, on_host
from ..storage.checkpoint import Encoded, encode_objects, write_checkpoint, write_sharded
from ..storage.shards import Shard, copied

T = TypeVar("T")


class Writer:
    """Writes checkpoints and weights. The main process writes; of sharded state each process writes its part.

    Args:
        agreement: The processes.
        background: Whether to write in a thread while training continues, from a copy on the host.
    """

    def __init__(self, agreement: Agreement, *, background: bool) -> None:
        self._agreement = agreement
        self._background = Background() if background else None
        # The threads of all processes agree among themselves, independently of training
        self._writers = (
            Agreement(agreement.num_processes, agreement.rank, is_for_thread=True) if background else agreement
        )

    def write_checkpoint(
        self, path: Path, objects: dict[str, Any], metadata: Mapping[str, Any], after_write: Callable[[], None]
    ) -> None:
        """Write a checkpoint. Collective.

        Args:
            path: The checkpoint, `…/step-<n>`.
            objects: State by name, with a `Shard` for each tensor of which several processes write a part.
            metadata: JSON for its manifest.
            after_write: What the main process does once the checkpoint is on disk.
        """
        encoded: Encoded = {}
        self._agreement.on_all(lambda: encoded.update(encode_objects(objects)))
        is_sharded = any(isinstance(tensor, Shard) for _, tensors in encoded.values() for tensor in tensors.values())

        def write(encoded: Encoded) -> None:
            if is_sharded:
                write_sharded(path, encoded, metadata, self._writers)
                self._writers.on_main(after_write)
            else:
                write_checkpoint(path, encoded, metadata)
                after_write()

        def submit() -> None:
            self._submit("checkpoint", encoded, self._copied, write)

        if not is_sharded:
            self._agreement.on_main(submit)
        elif self._background is None:
            submit()  # collective itself
        else:
            self._agreement.on_all(submit)

    def write_weights(self, name: str, state: dict[str, Any], write: Callable[[dict[str, Any]], None]) -> None:
        """Let the main process `write` the state of a model that is not sharded. Collective.

        Args:
            name: Of the model. At most one state of each model waits in the background.
            state: The weights.
            write: Writes them.
        """
        self._agreement.on_main(lambda: self._submit(f"weights {name}", state, on_host, write))

    def close(self) -> None:
        """Wait until everything is on disk.

        Raises:
            Exception: An error in writing in the background.
        """
        if self._background is not None:
            try:
                self._background.wait()
            finally:
                self._writers.close()

    def _submit(self, kind: str, content: T, copy: Callable[[T], T], write: Callable[[T], None]) -> None:
        if self._background is None:
            write(content)
        else:
            own = copy(content)
            self._background.submit(kind, lambda: write(own))

    def _copied(self, encoded: Encoded) -> Encoded:
        """Copies on the host of what this process writes: everything on the main process, shards on the others."""
        if self._agreement.rank > 0:
            encoded = {
                name: (tree, {key: tensor for key, tensor in tensors.items() if isinstance(tensor, Shard)})
                for name, (tree, tensors) in encoded.items()
            }
        return {name: (tree, copied(tensors)) for name, (tree, tensors) in encoded.items()}
