"""`paccel verify` on every template: unchanged, with a changed line, another number of threads, and changed data.

    python benchmarks/verify_templates.py [--templates minimal,tabular] [--json]

Each template is generated into a git repository and trained for a few steps with two checkpoints. Then the steps between them
are replayed four times: unchanged; with a second `optimizer.step()` in `train.py` (`--current`); with two threads instead of
one; and with other data: an edited cell of a table on disk, squared images of scikit-learn, or else edited code that makes the
data (`--current`), so that code and data are both reported. Prints the findings, and exits with 1 if a verdict is not the
expected one. Another number of threads may make no difference to small models; it is reported anyway.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from paccel.catalog.catalog import bundled_names

SQUARED = """
import sklearn.datasets as known
def changed(*args, load=known.load_digits, **options):
    found = load(*args, **options)
    found.data = found.data * found.data
    found.images = found.images * found.images
    return found
known.load_digits = changed
"""
LIMITS = ["--limit-batches", "6", "--epochs", "2", "--save-every", "6", "--eval-every", "6", "--log-every", "2"]
SHORT = {"minimal": ["--epochs", "2"]}
MADE_BY_CODE = {
    "text-classification": ("data.py", r"crc32\(text\.encode", "crc32(text[::-1].encode"),
    "language-model": ("data.py", "asyncio ", ""),
}


def paccel(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paccel", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **variables}
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        environment.pop(name, None)
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=1800, check=False)


def train(name: str, folder: Path) -> Path:
    """Generate a project and train it; returns its folder."""
    paccel(folder, "new", name, "--template", name, "--no-input").check_returncode()
    root = folder / name
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "generated"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=root, check=True)
    scripts = [["pretrain.py"]] if (root / "pretrain.py").is_file() else []
    for script in [*scripts, ["train.py", *SHORT.get(name, LIMITS), "--run-dir", "runs/a"]]:
        done = subprocess.run(
            [sys.executable, *script],
            cwd=root,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{name}: {' '.join(script)} failed\n{done.stderr[-2000:]}")
    return root


def edited(path: Path, pattern: str, new: str) -> str:
    """Replace the first match; returns the original text."""
    before = path.read_text(encoding="utf-8")
    after, count = re.subn(pattern, new, before, count=1)
    assert count, f"{path} has no {pattern}"
    path.write_text(after, encoding="utf-8")
    return before


def measure(name: str, folder: Path) -> dict[str, Any]:
    root = train(name, folder)
    found: dict[str, Any] = {}

    def verify(label: str, *options: str, **variables: str) -> None:
        began = time.perf_counter()
        done = paccel(root, "verify", "runs/a", "--json", *options, **variables)
        try:
            found[label] = json.loads(done.stdout) | {"seconds": time.perf_counter() - began}
        except ValueError:
            found[label] = {"verdict": "error", "difference": done.stdout + done.stderr, "causes": [], "seconds": 0.0}

    verify("unchanged")
    source = edited(root / "train.py", r"(\w*optimizer\w*)\.step\(\)", r"\1.step(); \1.step()")
    verify("changed line", "--current")
    (root / "train.py").write_text(source, encoding="utf-8")
    verify("two threads", OMP_NUM_THREADS="2")
    data = (root / ("data.py" if (root / "data.py").is_file() else "train.py")).read_text(encoding="utf-8")
    tables = sorted((root / "data").glob("*.csv"))
    if tables:
        edited(tables[0], r"(?m)^(\d+)", r"1\1")
        verify("changed data")
    elif "sklearn.datasets" in data:
        with tempfile.TemporaryDirectory() as path:
            Path(path, "sitecustomize.py").write_text(SQUARED, encoding="utf-8")
            shutil.rmtree(root / "data", ignore_errors=True)  # if the images were written to files
            verify("changed data", PYTHONPATH=path)
    else:
        scenes = root / "scenes.py"
        if scenes.is_file():
            edited(scenes, r"manual_seed\(([^)]*)\)", r"manual_seed(\1 + 1)")
        else:
            file, old, new = MADE_BY_CODE[name]
            edited(root / file, old, new)
        verify("changed data", "--current")
    return found


def problems(found: dict[str, Any]) -> list[str]:
    """The results that are not as expected."""
    wrong = [] if found["unchanged"]["verdict"] == "verified" and not found["unchanged"]["causes"] else ["unchanged"]
    for label, word in (
        ("changed line", "the code: train.py"),
        ("two threads", "threads: 1, now 2"),
        ("changed data", "the data"),
    ):
        if not any(word in cause for cause in found[label]["causes"]):
            wrong.append(label)
    wrong += [label for label in ("changed line", "changed data") if found[label]["verdict"] != "differs"]
    return sorted({*wrong})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--templates", default=",".join(bundled_names()))
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    given = parser.parse_args()
    results: dict[str, Any] = {}
    failed = False
    for name in given.templates.split(","):
        with tempfile.TemporaryDirectory() as folder:
            results[name] = found = measure(name, Path(folder))
        wrong = problems(found)
        failed = failed or bool(wrong)
        if given.json:
            continue
        print(f"{name}: {f'NOT AS EXPECTED: {wrong}' if wrong else 'as expected'}", flush=True)
        for label, result in found.items():
            causes = "; ".join(result["causes"]) or "no cause"
            compared = result.get("compared", {})
            amount = f"{compared.get('metrics', 0)} lines, {compared.get('tensors', 0)} tensors"
            print(
                f"  {label:<13} {result['verdict']:<9} {result['seconds']:5.1f} s  {amount}  [{causes}] {result['difference'] or ''}"
            )
    if given.json:
        print(json.dumps(results, indent=2))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
