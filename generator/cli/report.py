"""What `new`, `list`, `show` and `doctor` print, as text and as data for `--json`. Nothing here prints."""

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from click import style

from ..catalog.catalog import DEFAULT_TEMPLATE
from ..catalog.metadata import Metadata
from ..catalog.questions import Answer, Question
from ..catalog.template import Template
from ..files.tree import File, Tree

if TYPE_CHECKING:
    from ..health.doctor import Health

_ROLES = {
    "pyproject.toml": "dependencies and tool settings",
    ".gitignore": "files that git ignores",
    "tests": "the project's own tests",
}
"""The purpose of files with these names, in any project."""

_BUNDLED_ROLES = _ROLES | {
    "README.md": "how to run, edit and upgrade; what to expect",
    "AGENTS.md": "how to run, test and compare; for coding agents too",
    ".gitattributes": "how git treats paccel's baseline",
    ".github": "continuous integration",
    "launch": "scripts for several GPUs or nodes",
    "train.ipynb": "the training run in a notebook",
    "Dockerfile": "a container image for training",
    ".devcontainer": "a development container for editors",
    ".pre-commit-config.yaml": "black and ruff before each commit",
    ".vscode": "debugger configurations",
}


def roles(tree: Tree, bundled: bool) -> dict[str, str]:
    """Return path -> what the file is for. For a Python file, it is the first sentence of its docstring.

    Args:
        tree: The files of a project.
        bundled: Whether its template is a bundled one, where the purpose of more file names is known.
    """
    named = _BUNDLED_ROLES if bundled else _ROLES
    known = {path: role for path, role in named.items() if path in tree or any(p.startswith(f"{path}/") for p in tree)}
    for path, file in tree.items():
        if path.endswith(".py"):
            known[path] = _docstring(file)
    return {path: role for path, role in known.items() if role}


def _docstring(file: File) -> str:
    try:
        text = ast.get_docstring(ast.parse(file.content)) or ""
    except (SyntaxError, ValueError):
        return ""
    return text.partition("\n")[0].partition(". ")[0].rstrip(".")


def tree_text(name: str, tree: Tree, bundled: bool) -> str:
    """Draw the files as a tree, each with its role. Files come before folders, dot files last."""
    from shutil import get_terminal_size

    rows = [("", name + "/", ""), *_rows(sorted(tree), "", "", roles(tree, bundled))]
    width = max(len(prefix + label) for prefix, label, _ in rows)
    room = max(get_terminal_size().columns - width - 3, 20)
    lines = []
    for prefix, label, role in rows:
        line = style(prefix, dim=True) + label
        if role:
            line += " " * (width - len(prefix + label) + 2) + style(cut(role, room), dim=True)
        lines.append(line.rstrip())
    return "\n".join(lines)


def cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1].rstrip() + "…"


def _rows(paths: Sequence[str], folder: str, indent: str, known: Mapping[str, str]) -> Iterable[tuple[str, str, str]]:
    names = {path.removeprefix(folder).partition("/")[0] for path in paths if path.startswith(folder)}
    files = set(paths)
    order = sorted(names, key=lambda name: (folder + name not in files, name.startswith("."), name))
    for name in order:
        path, last = folder + name, name == order[-1]
        is_file = path in files
        yield indent + ("└── " if last else "├── "), name if is_file else name + "/", known.get(path, "")
        if not is_file:
            yield from _rows(paths, path + "/", indent + ("    " if last else "│   "), known)


def next_commands(path: str, tree: Tree) -> list[str]:
    """Return the commands to run after `new`."""
    quoted = f'"{path}"' if " " in path else path
    return (
        [f"cd {quoted}"] * (path != ".")
        + ["pip install -e ."] * ("pyproject.toml" in tree)
        + ["python train.py"] * ("train.py" in tree)
    )


def list_text(bundled: Mapping[str, Metadata]) -> str:
    """Return one line per template; `bundled` maps names to metadata."""
    width = max(map(len, bundled), default=0)
    return "\n".join(
        f"{style(name.ljust(width), bold=True)}  {metadata.description or metadata.title or name}"
        + " (default)" * (name == DEFAULT_TEMPLATE)
        for name, metadata in bundled.items()
    )


def list_data(bundled: Mapping[str, Metadata]) -> dict[str, Any]:
    return {
        "templates": [
            _summary(name, metadata, source=name) | {"default": name == DEFAULT_TEMPLATE}
            for name, metadata in bundled.items()
        ]
    }


def _summary(name: str, metadata: Metadata, source: str) -> dict[str, Any]:
    return {
        "name": name,
        "title": metadata.title,
        "description": metadata.description,
        "reaches": metadata.reaches,
        "source": source,
    }


def show_text(template: Template, questions: Sequence[Question], tree: Tree) -> str:
    """Describe a template: its questions with their choices, and the files of its default project."""
    head = f"{style(template.name, bold=True)}  {template.metadata.title}"
    parts = [head, *([template.metadata.description] if template.metadata.description else [])]
    if template.metadata.reaches:
        parts += [f"Expected result: {template.metadata.reaches}"]
    if questions:
        parts += ["", style("Questions", bold=True) + " (answer with `--set KEY=VALUE`; the default is in brackets)"]
        parts += [line for question in questions for line in question_lines(question)]
    parts += [
        "",
        style("Files", bold=True) + " (with the default answers)",
        tree_text("my-project", tree, template.bundled),
    ]
    return "\n".join(parts)


def show_data(template: Template, questions: Sequence[Question], tree: Tree) -> dict[str, Any]:
    known = roles(tree, template.bundled)
    asked = [
        {
            "name": question.name,
            "kind": question.kind,
            "default": question.default,
            "help": question.help,
            **(
                {"choices": {choice: question.choice_help.get(choice, "") for choice in question.choices}}
                if question.choices
                else {}
            ),
        }
        for question in questions
    ]
    return _summary(template.name, template.metadata, template.source) | {
        "version": template.digest,
        "digest": template.digest,
        "questions": asked,
        "files": {path: known.get(path, "") for path in tree},
    }


def question_lines(question: Question) -> list[str]:
    """Describe one question: its name, default and help, then a line for each choice."""
    default = "" if question.secret else answer_text(question.default)
    lines = [f"  {style(question.name, bold=True)} [{default}]" + (f"  {question.help}" if question.help else "")]
    width = max((len(choice) for choice in question.choices), default=0)
    return lines + [
        f"    {choice.ljust(width)}  {question.choice_help.get(choice, '')}".rstrip() for choice in question.choices
    ]


def answer_text(answer: Answer) -> str:
    """Return an answer as it is typed on the command line."""
    if isinstance(answer, list):
        return ",".join(answer)
    return str(answer).lower() if isinstance(answer, bool) else answer


def doctor_text(machine: Mapping[str, Any], health: "Health | None") -> str:
    """Describe the machine, then the project."""
    versions = {"paccel": machine["paccel"], "python": machine["python"], **machine["versions"]}
    rows = [
        ("system", f"{machine['system']}, {machine['cpus']} CPUs"),
        ("python", f"{machine['interpreter']['path']} ({machine['interpreter']['origin']})"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    if "error" in machine:
        rows.append(("devices", f"unknown: {machine['error']}"))
    else:
        rows += [
            ("devices", ", ".join(_device(device) for device in machine["devices"])),
            ("precisions", ", ".join(machine["precisions"])),
            ("backends", ", ".join(machine["backends"]) or "none"),
        ]
    if health is None:
        rows.append(("project", "none in this folder"))
    else:
        if health.manifest is not None:
            template = health.manifest.template
            rows.append(("project", f"{health.root.name} (template {template.name}, paccel {health.manifest.paccel})"))
            vendored = health.manifest.vendored
            if vendored is not None:
                rows.append(("runtime", f"the project's own, {vendored.path}, copied from paccel {vendored.version}"))
        rows.append(("state", style("needs attention", fg="red") if health.problems else "ok"))
    lines = [f"{style(name.ljust(10), bold=True)}  {text}" for name, text in rows]
    return "\n".join([*lines, *(f"  {problem}" for problem in (health.problems if health else ()))])


def _device(device: Mapping[str, Any]) -> str:
    memory = f", {device['memory_bytes'] / 2**30:.0f} GiB" if "memory_bytes" in device else ""
    return f"{device['device']} ({device['name']}{memory})"


def doctor_data(machine: Mapping[str, Any], health: "Health | None") -> dict[str, Any]:
    project: dict[str, Any] | None = None
    if health is not None:
        manifest = health.manifest
        project = {
            "root": str(health.root),
            "template": manifest.template.name if manifest else None,
            "paccel": manifest.paccel if manifest else None,
            "sound": not health.problems,
            "problems": list(health.problems),
        }
        if manifest is not None and manifest.vendored is not None:
            project["vendored"] = manifest.vendored._asdict()
    return {"machine": dict(machine), "project": project}
