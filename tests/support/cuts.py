"""What a kill at any instant leaves of a run: copies of its folder, from every point at which it touches the disk.

A killed process leaves the disk as it is, so a copy of the folder is what SIGKILL at that instant would have left. One
run replaces hundreds of killed ones.
"""

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

from support.points import Points
from support.tiny_train import run_as_process


class Cuts:
    """Copies a run's folder to `folder/<number of the point>`.

    Args:
        run_dir: The run.
        folder: Where the copies go.
        all_of_them: Whether to copy it at every point, or only if a resumed run could tell the copy from earlier ones:
            it reads neither `.tmp` files nor the times in `status.json`.
    """

    def __init__(self, run_dir: Path, folder: Path, all_of_them: bool) -> None:
        self.run_dir, self.folder, self.all_of_them = run_dir, folder, all_of_them
        self._seen: set[str] = set()

    def __call__(self, number: int) -> None:
        if not self.run_dir.exists():
            return
        state = str(number) if self.all_of_them else self._state()
        if state not in self._seen:
            self._seen.add(state)
            shutil.copytree(self.run_dir, self.folder / str(number), ignore=shutil.ignore_patterns("order-*"))

    def _state(self) -> str:
        digest = hashlib.sha256()
        for path in sorted(self.run_dir.rglob("*")):
            name = str(path.relative_to(self.run_dir))
            if ".tmp/" in name or name.startswith("order-"):
                continue
            digest.update(name.encode())
            if name == "status.json":
                status = path.read_bytes()  # empty while a run is being claimed
                digest.update(json.loads(status or b"{}").get("state", "").encode())
            elif path.is_file() and not name.endswith(".tmp"):
                digest.update(path.read_bytes())
        return digest.hexdigest()


def run_with_cuts(
    arguments: list[str], environment: dict[str, str], output: Path, run_dir: Path, folder: Path, all_of_them: bool
) -> None:
    """`run_as_process`, with copies of `run_dir` in `folder`."""
    Points(Cuts(run_dir, folder, all_of_them)).install()
    run_as_process(arguments, environment, output)


def run_and_kill(arguments: list[str], environment: dict[str, str], output: Path, at: int) -> None:
    """`run_as_process`, until SIGKILL at a point."""
    Points(lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == at else None).install()
    run_as_process(arguments, environment, output)
