"""Check the machine and the project: what training can use here, and whether an upgrade could start.

Another process asks torch: paccel itself never imports torch, and a broken driver cannot crash it.
"""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..catalog.catalog import load_template
from ..catalog.questions import resolve_answers
from ..errors import PaccelError, PreconditionError
from ..files import disk
from ..merge.markers import has_markers
from ..project.folder import read_paths
from ..project.state import Manifest, read_manifest, read_state, write_state
from ..render.render import render
from ..upgrade.upgrade import refuse_unfinished

PROBE_TIMEOUT_SECONDS = 120

_PROBE = """
import json
from importlib.metadata import PackageNotFoundError, version

facts = {"versions": {}}
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
    devices.append({"device": "cpu", "name": f"{torch.get_num_threads()} threads"})
    facts["devices"], facts["precisions"] = devices, precisions
    available = dist.is_available()
    facts["backends"] = [n for n in ("nccl", "gloo", "xccl", "mpi") if available and getattr(dist, f"is_{n}_available")()]
print(json.dumps(facts))
"""


@dataclass(frozen=True)
class Health:
    """What `examine_project` found; a valid project has no problems."""

    root: Path
    manifest: Manifest | None
    problems: tuple[str, ...]


def examine_machine() -> dict[str, Any]:
    """Return versions, devices, precisions and distributed backends, with `error` instead where torch gave none.

    The keys are `paccel`, `python`, `system`, `cpus`, `versions`, and with torch `devices`, `precisions` and `backends`.
    """
    facts: dict[str, Any] = {
        "paccel": __version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "cpus": os.cpu_count(),
        "versions": {},
    }
    # `-P` keeps the project's own folder off the path: its `data.py` or `model.py` must not stand in for a package's.
    command = [sys.executable, "-P", "-c", _PROBE]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_SECONDS,
            check=False,
        )
        if result.returncode:
            lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
            return facts | {"error": f"torch cannot be imported: {lines[-1]}"}
        facts |= json.loads(result.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return facts | {"error": f"torch could not be imported within {PROBE_TIMEOUT_SECONDS} s"}
    except (OSError, ValueError, IndexError) as error:
        return facts | {"error": f"torch could not be checked: {error}"}
    if "torch" not in facts["versions"]:
        facts["error"] = (
            "torch is not installed: run `pip install 'paccel[runtime]'`, or `pip install -e .` in a project"
        )
    return facts


def examine_project(root: Path) -> Health:
    """Check the project: manifest, baseline, unfinished upgrades, conflict markers."""
    problems: list[str] = []
    manifest = None
    try:
        manifest = read_manifest(root)
        read_state(root)
    except PaccelError as error:
        problems.append(str(error))
    try:
        refuse_unfinished(root)
    except PaccelError as error:
        problems.append(str(error))
    if manifest is not None:
        try:
            for path, file in read_paths(root, manifest.files).items():
                if has_markers(file.content):
                    problems.append(f"`{path}` contains conflict markers: resolve each conflict")
        except PaccelError as error:
            problems.append(str(error))
    return Health(root, manifest, tuple(problems))


def rebuild_baseline(root: Path) -> Manifest:
    """Render the project's template again and write the baseline, if it has the hashes in the manifest.

    Raises:
        PreconditionError: The manifest cannot be read, today's template renders something else, or another paccel
            command is working in the project.
        TemplateError: The template is gone, or cannot be rendered.
    """
    with disk.locked(root):
        return _rebuild(root)


def _rebuild(root: Path) -> Manifest:
    manifest = read_manifest(root)
    template = load_template(manifest.template.source)
    back = f"run `pip install paccel=={manifest.paccel}`" if manifest.paccel != __version__ else "restore the template"
    how = f"{back} and try again; or run `paccel upgrade`, which merges what it can, or `paccel adopt`"
    if template.digest != manifest.template.digest:
        raise PreconditionError(
            f"The template `{template.name}` has changed since paccel `{manifest.paccel}` rendered the baseline: {how}"
        )
    tree = render(template, resolve_answers(template, manifest.answers))
    rendered = {path: (file.sha256, file.executable) for path, file in tree.items()}
    if rendered != dict(manifest.files):
        different = sorted(
            path for path in rendered.keys() | manifest.files.keys() if rendered.get(path) != manifest.files.get(path)
        )
        raise PreconditionError(
            f"The template no longer renders the files that the manifest recorded: {', '.join(f'`{p}`' for p in different)};"
            f" {how}"
        )
    write_state(root, manifest, tree)
    return manifest
