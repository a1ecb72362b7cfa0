"""Compare the code and the data that runs used, by the hashes that they recorded."""

from collections.abc import Hashable, Mapping

from .folder import RunFolder


def code_key(run: RunFolder) -> Hashable:
    """Return a key that is equal for runs of the same code: the hashes of the files, else the git commit."""
    files = run.code_files
    return (run.git_commit, run.dirty) if files is None else tuple(sorted(files.items()))


def changed_files(first: RunFolder, second: RunFolder) -> list[str] | None:
    """Return the source files that differ between two runs; None if that is not known."""
    before, after = first.code_files, second.code_files
    if before is None or after is None:
        same_commit = first.git_commit is not None and first.git_commit == second.git_commit
        return [] if same_commit and not first.dirty and not second.dirty else None
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def data_key(run: RunFolder, use: str) -> Hashable:
    """Return a key that is equal for runs with the same data: sample count and hash of each loader; None if not recorded.

    Args:
        run: The run.
        use: `train` or `eval`.
    """
    loaders = (run.data or {}).get(use)
    if not isinstance(loaders, Mapping) or not loaders:
        return None
    found = [about if isinstance(about, Mapping) else {} for about in loaders.values()]
    return tuple((str(about.get("samples")), str(about.get("content"))) for about in found)
