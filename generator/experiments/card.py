"""Write a model card for the weights of a run from what the run recorded, and upload it to the Hugging Face Hub."""

import hashlib
import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PreconditionError, UsageError
from ..files.disk import write_whole
from ..runs.folder import RunFolder, require_run
from ..runs.scores import best_of, choose_metric
from .code import find_root
from .tensors import step_of, tensors_of

_TASKS = {
    "image-classification": "image-classification",
    "fine-tuning": "image-classification",
    "image-segmentation": "image-segmentation",
    "object-detection": "object-detection",
    "text-classification": "text-classification",
    "language-model": "text-generation",
    "tabular": "tabular-classification",
    "gan": "unconditional-image-generation",
}
"""Template of the project -> the Hub's name for its task."""
_FILES = ("README.md", "curves.png")
_PATHS = ("run_dir", "resume")
_SECRET = re.compile(r"(key|token|secret|password|passwd|credentials?)$", re.IGNORECASE)


class Card(NamedTuple):
    """A model card.

    Attributes:
        path: Its `README.md`.
        weights: The file that it describes.
    """

    path: Path
    weights: Path


def write_card(path: Path, *, weights: str | None = None, certificate: Path | None = None) -> Card:
    """Write `weights/README.md` of a run, and copy its curves there.

    Args:
        path: The run directory.
        weights: A file of `weights/`, with or without `.safetensors`. None: the only one, else `best`, else `final`.
        certificate: A file written by `paccel verify --certificate`.

    Raises:
        UsageError: There are no such weights, or the certificate belongs to another run or says `differs`.
        PreconditionError: The run, the weights or the certificate cannot be read.
    """
    run = require_run(path)
    file = _choose_weights(run, weights)
    proof = None if certificate is None else _read_certificate(certificate, run)
    template, answers, name = _project(run)
    curves = run.path / "curves.png"
    if curves.is_file():
        shutil.copyfile(curves, file.with_name("curves.png"))
    text = "\n".join(_lines(run, file, proof, template, answers, name, has_curves=curves.is_file()))
    card = file.with_name("README.md")
    write_whole(card, text.encode())
    return Card(card, file)


def push(card: Card, repository: str, *, private: bool = False) -> str:
    """Upload the weights, the card and the curves to the Hub, with the account of `hf auth login`.

    Returns:
        The URL of the repository.

    Raises:
        PreconditionError: `huggingface_hub` is not installed, or the upload fails.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        raise PreconditionError("`--push` needs `huggingface_hub`: `pip install huggingface_hub`") from error
    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            folder_path=card.path.parent,
            repo_id=repository,
            allow_patterns=[*_FILES, card.weights.name],
            commit_message=f"Upload {card.weights.name}",
        )
    except (HFValidationError, OSError, ValueError) as error:  # HTTP errors are OSErrors
        raise PreconditionError(f"Pushing to `{repository}` failed: {str(error).strip().splitlines()[0]}") from error
    return str(address)


def _choose_weights(run: RunFolder, name: str | None) -> Path:
    found = {path.stem: path for path in sorted((run.path / "weights").glob("*.safetensors"))}
    if name is not None:
        name = name.removesuffix(".safetensors")
    elif len(found) == 1:
        name = next(iter(found))
    else:
        name = next((known for known in ("best", "final") if known in found), None)
    if name is None or name not in found:
        known = ", ".join(f"`{stem}`" for stem in found) or "none"
        raise UsageError(f"`{run.path}` has no weights `{name or 'best'}`; `--weights` can be: {known}")
    return found[name]


def _read_certificate(path: Path, run: RunFolder) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
        of, verdict = Path(found["run"]), str(found["verdict"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PreconditionError(f"`{path}` is not a certificate of `paccel verify`: {error}") from error
    if of.name != run.path.resolve().name:
        raise UsageError(f"`{path}` is the certificate of `{of}`, not of `{run.path}`")
    if verdict != "verified":
        raise UsageError(
            f"`{path}` says that the replay differed from the run: pass a certificate that says `verified`, or none"
        )
    return dict(found)


def _project(run: RunFolder) -> tuple[str | None, Mapping[str, Any], str]:
    """Return the template, the answers and the name of the run's project."""
    try:
        root = find_root(run)
        manifest = json.loads((root / ".paccel" / "manifest.json").read_bytes())
        return str(manifest["template"]["name"]), dict(manifest["answers"]), root.name
    except PreconditionError:
        return None, {}, run.path.resolve().name
    except (OSError, ValueError, KeyError, TypeError):
        return None, {}, root.name


def _lines(
    run: RunFolder,
    file: Path,
    proof: Mapping[str, Any] | None,
    template: str | None,
    answers: Mapping[str, Any],
    name: str,
    *,
    has_curves: bool,
) -> Iterator[str]:
    step, task = step_of(file), _TASKS.get(template or "")
    data = str(answers.get("data") or Path(str(run.settings.get("data_dir") or "")).name or "its own data")
    scores = _scores(run, file, step)
    yield from _front_matter(name, task, data, scores, template)
    yield from (f"# {_cell(name)}", "")
    tensors = tensors_of(file)
    count = sum(math.prod(tensor.shape) for tensor in tensors.values())
    after = "" if step is None else f", after step {step}"
    yield f"`{file.name}`: {count:,} values in {len(tensors)} tensors of a PyTorch model{after}."
    yield "Everything below was measured or recorded by the run; nothing was written by hand."
    yield ""
    yield from ("```python", "from pathlib import Path", "", "from paccel.runtime import load_weights", "")
    yield f'load_weights(Path("{file.name}"), model)  # the model that `train.py` builds'
    yield from ("```", "")
    if scores:
        yield from ("## Scores", "", "| score | value | step |", "|---|---|---|")
        yield from (f"| {_cell(key)} | {value:.6g} | {at} |" for key, (value, at) in scores.items())
        yield ""
    if has_curves:
        yield from ("![Curves of the run](curves.png)", "")
    yield from _data_lines(run)
    yield from ("## Settings", "", "| setting | value |", "|---|---|")
    shown = {key: value for key, value in run.settings.items() if key not in _PATHS}
    yield from (f"| {_cell(key)} | {_cell(_without_secret(key, value))} |" for key, value in shown.items())
    yield from ("", "## How it was made", "")
    about = {
        "steps": run.step,
        "state": run.state + (f" ({run.reason})" if run.reason else ""),
        "git commit": None if run.git_commit is None else run.git_commit + (" with changes" if run.dirty else ""),
        "code": _code(run),
        "processes": run.environment.get("num_processes"),
        "precision": run.environment.get("precision"),
        "GPU": run.environment.get("gpu"),
        "CPU": run.environment.get("cpu"),
        "CPU threads": run.environment.get("threads"),
        "versions": ", ".join(f"{package} {version}" for package, version in run.versions.items()),
        "weights (SHA-256)": _sha256(file),
    }
    yield from (f"- {key}: {_cell(value)}" for key, value in about.items() if value not in (None, ""))
    yield from ("", "## Verified", "")
    if proof is None:
        yield "Not verified. `paccel verify RUN --certificate FILE` replays part of the run and compares the result byte for byte."
    else:
        yield (
            f"Steps {proof.get('from_step')} to {proof.get('to_step')} were replayed from {proof.get('code', {}).get('from')}, and "
            f"are identical, byte for byte ({proof.get('time')})."
        )
    yield ""


def _scores(run: RunFolder, file: Path, step: int | None) -> dict[str, tuple[float, int]]:
    """Return the scores of these weights: evaluations at their step, and tests, which are run on the best weights at the end."""
    found: dict[str, tuple[float, int]] = {}
    metric = choose_metric([run])
    best = best_of(run, metric)[0] if metric is not None and file.stem.startswith("best") else None
    at = step if step is not None else (best.step if best is not None else run.step)
    for row in run.rows():
        for key, value in row.items():
            section = key.partition("/")[0]
            if "/" in key and math.isfinite(value) and (section == "test" or (section == "eval" and row["step"] == at)):
                found[key] = value, int(row["step"])
    return found


def _front_matter(
    name: str, task: str | None, data: str, scores: Mapping[str, tuple[float, int]], template: str | None
) -> Iterator[str]:
    """Yield the Hub's metadata. JSON strings and lists are valid YAML."""
    yield from (
        "---",
        "library_name: pytorch",
        f"tags: {json.dumps(['pytorch', 'paccel', *([template] if template else [])])}",
    )
    if task is not None:
        yield f"pipeline_tag: {task}"
    if scores:
        yield from ("model-index:", f"- name: {json.dumps(name)}", "  results:")
        yield from ("  - task:", f"      type: {task or 'other'}", "    dataset:")
        yield from (f"      name: {json.dumps(data)}", f"      type: {json.dumps(data)}", "    metrics:")
        for key, (value, _) in scores.items():
            yield from (
                f"    - type: {json.dumps(key.partition('/')[2])}",
                f"      name: {json.dumps(key)}",
                f"      value: {_yaml(value)}",
            )
    yield from ("---", "")


def _yaml(value: float) -> str:
    """Return a number as YAML: 1e-05 would be a string there, 1.0e-05 is a number."""
    text = repr(value)
    return text if "." in text else text.replace("e", ".0e")


def _data_lines(run: RunFolder) -> Sequence[str]:
    if not run.data:
        return ()
    lines = ["## Data", "", "| used to | samples | hash |", "|---|---|---|"]
    for use, loaders in run.data.items():
        for about in loaders.values() if isinstance(loaders, Mapping) else ():
            if isinstance(about, Mapping):
                cells = ["train" if use == "train" else "evaluate", about.get("samples"), about.get("content")]
                lines.append("| " + " | ".join("" if cell is None else _cell(cell) for cell in cells) + " |")
    return [*lines, ""]


def _code(run: RunFolder) -> str | None:
    patch = run.patch()
    if patch is None:
        return None
    digest = hashlib.sha256(patch.encode("utf-8", "surrogateescape")).hexdigest()
    return f"the commit and a patch of {len(patch.splitlines())} lines (SHA-256 {digest})"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _without_secret(name: str, value: Any) -> Any:
    """Return the value of a setting, unless its name says that it is a secret: a card is published."""
    return "(not shown)" if isinstance(value, str) and value and _SECRET.search(name) else value


def _cell(value: Any) -> str:
    """Return a value as text, escaped for Markdown tables."""
    text = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"([\\|<`*\[\]])", r"\\\1", " ".join(text.splitlines()))
