"""Checkpoints of any objects, written directly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paccel.runtime.storage.checkpoint import encode_objects, write_checkpoint


def write_objects(path: Path, objects: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint of objects by name."""
    write_checkpoint(path, encode_objects(objects), metadata)
