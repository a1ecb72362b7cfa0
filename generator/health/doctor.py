"""Check the machine and the project: which devices training can use, and whether an upgrade could start.

torch is imported in another process, so that a broken driver cannot crash paccel.
"""

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..catalog.answers import resolve_answers
from ..catalog.catalog import load_recorded
from ..errors import PaccelError, PreconditionError
from ..files import disk
from ..files.tree import Tree
from ..project.folder import read_paths
from ..project.interpreter import find_interpreter
from ..project.state import MANIFEST_PATH, Manifest, answers_hash, read_manifest, read_state, write_state
from ..render.render import render
from ..sandbox.draws import Draws
from ..upgrade.preconditions import conflicted, refuse_newer, refuse_unfinished
from ..vendor.rewrite import in_project
from .git import examine_git

PROBE_TIMEOUT_SECONDS = 120

_PROBE = """
import json
import platform
from importlib.metadata import PackageNotFoundError, version

facts = {"python": platform.python_version(), "versions": {}}
for name in ("torch", "accelerate", "torchvision", "timm"):
    try:
        facts["versions"][name] = version(name)
    except PackageNotFoundError:
        pass
if "torch" in facts["versions"]:
    import torch
    import torch.distributed as dist

    devices, precisions = [], ["fp32", "bf16"]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            devices.append({"device": f"cuda:{index}", "name": properties.name, "memory_bytes": properties.total_memory})
        precisions = ["fp32", "fp16"] + ["bf16"] * torch.cuda.is_bf16_supported(including_emulation=False)
    if getattr(torch, "xpu", None) is not None and torch.xpu.is_available():
        devices += [{"device": f"xpu:{i}", "name": torch.xpu.get_device_name(i)} for i in range(torch.xpu.device_count())]
    if torch.backends.mps.is_available():
        devices.append({"device": "mps", "name": "Apple GPU"})
        precisions = ["fp32", "fp16"]
    threads = torch.get_num_threads()
    devices.append({"device": "cpu", "name": f"{threads} thread" + "s" * (threads != 1)})
    facts["devices"], facts["precisions"] = devices, precisions
    available = dist.is_available()
    facts["backends"] = [n for n in ("nccl", "gloo", "xccl", "mpi") if available and getattr(dist, f"is_{n}_available")()]
print(json.dumps(facts))
"""


@dataclass(frozen=True)
class Health:
    """The result of `examine_project`. A valid project has no problems."""

    root: Path
    manifest: Manifest | None
    problems: tuple[str, ...]


def examine_machine(root: Path) -> dict[str, Any]:
    """Ask the Python of the project in `root` which devices, precisions and backends torch can use there.

    Returns:
        `paccel`, `interpreter`, `python` (its version), `system`, `cpus`, `versions`; `devices`, `precisions` and
        `backends` if torch can be imported, else `error`.
    """
    interpreter = find_interpreter(root)
    facts: dict[str, Any] = {
        "paccel": __version__,
        "interpreter": interpreter.to_json(),
        "python": "unknown",
        "system": platform.platform(terse=True),
        "cpus": os.cpu_count(),
        "versions": {},
    }
    # `-P` keeps the project's folder off the path, where a `data.py` or `model.py` could shadow a package's module.
    command = [interpreter.path, "-P", "-c", _PROBE]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_TIMEOUT_SECONDS,
            check=False,
        )
        if result.returncode:
            lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
            return facts | {"error": f"torch cannot be imported with {interpreter}: {lines[-1]}"}
        facts |= json.loads(result.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return facts | {"error": f"torch could not be imported within {PROBE_TIMEOUT_SECONDS} s"}
    except OSError as error:
        return facts | {"error": f"the project's Python {interpreter} does not work: {error.strerror or error}"}
    except (ValueError, IndexError) as error:
        return facts | {"error": f"torch could not be checked with {interpreter}: {error}"}
    if "torch" not in facts["versions"]:
        facts["error"] = (
            f"torch is not installed for {interpreter}: run `pip install 'paccel[runtime]'`, or `pip install -e .` in a"
            " project"
        )
    return facts


def examine_project(root: Path) -> Health:
    """Check a project: manifest, baseline, how git treats them, unfinished upgrades, conflict markers."""
    problems: list[str] = []
    manifest = None
    base: Tree = {}
    try:
        manifest = read_manifest(root)
        refuse_newer(manifest)
        if manifest.answers_edited:
            problems.append(
                f"the answers in `{MANIFEST_PATH}` are not those that the files were rendered with: run `paccel upgrade`"
            )
        base = read_state(root)[1]
    except PaccelError as error:
        problems.append(str(error))
    problems += examine_git(root)
    try:
        refuse_unfinished(root)
    except PaccelError as error:
        problems.append(str(error))
    if manifest is not None and manifest.vendored is not None:
        copy = manifest.vendored.path
        if not (root / copy / "__init__.py").is_file():
            problems.append(
                f"the project's copy of the runtime, `{copy}`, is missing: restore it from git, or run `paccel upgrade"
                f" --restore {copy}`"
            )
    if manifest is not None:
        try:
            for path in conflicted(root, read_paths(root, manifest.files), [base]):
                problems.append(f"`{path}` contains conflict markers: resolve each conflict")
        except PaccelError as error:
            problems.append(str(error))
    return Health(root, manifest, tuple(problems))


def rebuild_baseline(root: Path) -> Manifest:
    """Render the project's template again, and write the baseline if it has the hashes in the manifest.

    Raises:
        PreconditionError: The manifest cannot be read, the template renders other files today, or another paccel command
            is working in the project.
        TemplateError: The template is missing, or cannot be rendered.
    """
    with disk.locked(root):
        return _rebuild(root)


def _rebuild(root: Path) -> Manifest:
    manifest = read_manifest(root)
    refuse_newer(manifest)
    template = load_recorded(manifest.template, root, as_rendered=True)
    first = f"run `pip install paccel=={manifest.paccel}`" if manifest.paccel != __version__ else "restore the template"
    how = f"{first} and try again; or run `paccel upgrade`, which merges what it can, or `paccel adopt`"
    if template.digest != manifest.template.digest:
        raise PreconditionError(
            f"The template `{template.name}` has changed since paccel `{manifest.paccel}` rendered the baseline: {how}"
        )
    draws = Draws(manifest.drawn)
    tree = in_project(
        render(template, resolve_answers(template, manifest.answers, draws=draws), draws), manifest.vendored
    )
    rendered = {path: (file.sha256, file.executable) for path, file in tree.items()}
    if rendered != dict(manifest.files):
        different = sorted(
            path for path in rendered.keys() | manifest.files.keys() if rendered.get(path) != manifest.files.get(path)
        )
        raise PreconditionError(
            f"The template no longer renders the files that the manifest recorded: {', '.join(f'`{p}`' for p in different)};"
            f" {'the answers in it were edited: undo that, or ' if manifest.answers_edited else ''}{how}"
        )
    manifest = manifest._replace(answers_sha256=answers_hash(manifest.answers))
    write_state(root, manifest, tree)
    return manifest
