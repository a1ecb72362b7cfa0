"""Writes shards of each format, with numbers as samples."""

import io
import json
import tarfile
from pathlib import Path

import pytest

KINDS = ["tar", "jsonl", "parquet"]


def write(path: Path, numbers: range, long_names: bool = False) -> None:
    """Write the samples with these numbers; `number_of` reads them."""
    if path.suffix == ".tar":
        with tarfile.open(path, "w") as archive:
            for n in numbers:
                for suffix, data in (
                    ("json", json.dumps({"n": n}).encode()),
                    ("seg.bin", bytes([n % 256]) * (n * 37 % 900)),
                ):
                    member = tarfile.TarInfo(f"{'folder-' * 30 * long_names}a/{n:05}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"n": n, "text": "ä\n" * (n % 5)}) + "\n" for n in numbers))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"n": list(numbers)}), path, row_group_size=4)
