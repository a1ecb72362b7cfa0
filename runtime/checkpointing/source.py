"""The checkpoint that a run resumes from."""

from functools import cached_property
from pathlib import Path

from ..errors import CheckpointError
from ..hardware.agreement import Agreement
from ..record.reporting import Reporter
from ..storage.checkpoint import list_checkpoints, read_metadata, verify_checkpoint


class Source:
    """The newest valid checkpoint of a run, or before its first one the checkpoint of another run that it starts from.

    Args:
        folder: The run's checkpoints.
        fork: The checkpoint of another run. None: the run starts from scratch.
        agreement: The processes.
        reporter: Warns of damaged checkpoints.
    """

    def __init__(self, folder: Path, fork: Path | None, agreement: Agreement, reporter: Reporter) -> None:
        self._folder, self._fork, self._agreement, self._reporter = folder, fork, agreement, reporter

    @cached_property
    def path(self) -> Path | None:
        """The checkpoint, searched once, with a warning for each damaged one; None: there is none. Collective.

        Raises:
            CheckpointError: There are checkpoints and all are damaged.
        """
        found = self._agreement.on_main(lambda: list_checkpoints(self._folder))
        for step, path in found:
            problem = self._problem_of(path, step)
            if problem is None:
                return path
            self._reporter.warn(f"{path} is damaged ({problem}): falling back to the checkpoint before it")
        if found:
            raise CheckpointError(f"All {len(found)} checkpoints in `{self._folder}` are damaged")
        if self._fork is not None and (problem := self._problem_of(self._fork)):
            raise CheckpointError(f"`{self._fork}` cannot be resumed from: {problem}")
        return self._fork

    def _problem_of(self, path: Path, step: int | None = None) -> str | None:
        """What is wrong with a checkpoint; None if it is valid. Each process checks some of its files. Collective."""
        problem = verify_checkpoint(path, self._agreement.rank, self._agreement.num_processes)
        if problem is None and step is not None and (saved := read_metadata(path).get("step", step)) != step:
            problem = f"it was saved at step {saved}"
        return next((found for found in self._agreement.gather(problem) if found is not None), None)
