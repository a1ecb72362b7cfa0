"""Imports from a folder that must not change, such as a snapshot."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def modules_of(folder: Path, *names: str) -> Iterator[None]:
    """Allow imports from `folder` in the block; afterwards forget its modules `names`. Writes no byte-code."""
    before, writes_none = set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_none
        sys.path.remove(str(folder))
        for name in set(names) - before:
            sys.modules.pop(name, None)
