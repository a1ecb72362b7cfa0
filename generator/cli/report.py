"""What the commands say, as text and as data for `--json`. Nothing here prints."""

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from click import style

from ..catalog.catalog import DEFAULT_TEMPLATE, Template
from ..catalog.metadata import Metadata
from ..catalog.questions import Answer, Question
from ..files.tree import File, Tree

if TYPE_CHECKING:
    from ..check.finding import Finding
    from ..experiments.variant import Kept, Variant
    from ..experiments.verify import Certificate
    from ..health.doctor import Health
    from ..project.compare import FileDiff
    from ..upgrade.change import Summary
    from ..upgrade.follow import Following

_ROLES = {
    "pyproject.toml": "dependencies and tool settings",
    ".gitignore": "files that git ignores",
    "tests": "the project's own tests",
}
"""What files of these names are for in any project."""

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
    """Return path -> what the file is for, if known: for a Python file, the first sentence of its docstring.

    Args:
        tree: A render.
        bundled: Whether it is of a bundled template, in which more file names have a known meaning.
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
    """Draw the files as a tree, each with what `roles` says; files before folders, dot files last."""
    from shutil import get_terminal_size

    rows = [("", name + "/", ""), *_rows(sorted(tree), "", "", roles(tree, bundled))]
    width = max(len(prefix + label) for prefix, label, _ in rows)
    room = max(get_terminal_size().columns - width - 3, 20)
    return "\n".join(
        (
            (
                style(prefix, dim=True)
                + label
                + " " * (width - len(prefix + label))
                + "  "
                + style(_cut(role, room), dim=True)
            ).rstrip()
            if role
            else style(prefix, dim=True) + label
        )
        for prefix, label, role in rows
    )


def _cut(text: str, room: int) -> str:
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
    """Return one line for each template; `bundled` are by name."""
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
    """Return an answer as it would be typed."""
    if isinstance(answer, list):
        return ",".join(answer)
    return str(answer).lower() if isinstance(answer, bool) else answer


def diff_text(diffs: "Sequence[FileDiff]") -> str:
    """Return the unified diffs, coloured."""
    colours = {"+": "green", "-": "red", "@": "cyan"}
    lines = []
    for diff in diffs:
        for line in diff.text.removesuffix("\n").split("\n"):
            heading = line.startswith(("diff ", "--- ", "+++ "))
            lines.append(style(line, bold=True) if heading else style(line, fg=colours.get(line[:1])))
    return "\n".join(lines)


def findings_text(findings: "Sequence[Finding]") -> str:
    """Describe what is wrong with a merged project: each place, and the other side's change that meets it."""
    lines = [style("Found in the merged project, and in neither version before:", fg="red", bold=True)]
    for finding in findings:
        where = finding.path + (f":{finding.line}" if finding.line else "")
        lines.append(f"  {style(where, bold=True)}  {finding.message} ({finding.tool}: {finding.rule})")
        if finding.text:
            lines.append(f"      {finding.text}")
        cause = finding.cause
        if cause is not None:
            done = "removed" if cause.removed else "has"
            who = "the template" if cause.side == "template" else "you"
            done = done if who != "you" else "have" if done == "has" else done
            lines.append(f"    {cause.path}:{cause.line}  {who} {done}")
            lines.append(f"      {cause.text}")
    return "\n".join(lines)


def diff_data(diffs: "Sequence[FileDiff]") -> dict[str, Any]:
    return {"files": [{"path": diff.path, "status": diff.status, "diff": diff.text} for diff in diffs]}


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


def follows_text(follows: "Following") -> str:
    """Say what is renamed in the user's files, which uses to look at, and what was left; empty where there is nothing."""
    lines: list[str] = []
    if follows.edits:
        lines.append(style("Your code follows", bold=True))
        lines += [
            f"  {edit.path}:{edit.line}  {_one_line(edit.old)} -> {_one_line(edit.new)}" for edit in follows.edits
        ]
    for uses in follows.meanings:
        lines.append(f"{style('Changed meaning', bold=True)} of {uses.name}: {uses.text}")
        lines += [
            f"  {use.path}:{use.line}  {use.text}" + ("" if use.certain else "  (perhaps: its class is not plain)")
            for use in uses.uses
        ]
    if follows.unclear:
        lines.append(style("Look at these yourself", bold=True))
        lines += [f"  {place.path}:{place.line}  {place.reason}" for place in follows.unclear]
    if follows.skipped:
        lines.append(style("Not applied", bold=True))
        lines += [f"  {reason}" for reason in follows.skipped]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return _cut(" ".join(text.split()), 60)


def upgrade_markdown(changes: "Sequence[Summary]", follows: "Following", conflicts: Sequence[str]) -> str:
    """Describe an upgrade as a pull request does: each file with its reasons, what to look at, what to resolve."""
    lines = ["| file | what happens | why |", "|---|---|---|"]
    for change in changes:
        reasons = "<br>".join(_cell(text) for text in (change.reason, *change.why) if text)
        lines.append(f"| {_code(change.path)} | {change.status} | {reasons} |")
    if not changes:
        lines = ["No files change; only paccel's own state is updated."]
    if conflicts:
        lines += [
            "",
            f"**Conflicts** in {', '.join(map(_code, conflicts))}. Check out this branch, resolve them, then run"
            " `paccel upgrade --continue` and commit everything.",
        ]
    for uses in follows.meanings:
        lines += ["", f"**Changed meaning** of {_code(str(uses.name))}: {_cell(uses.text)}", ""]
        lines += [f"- {_code(f'{use.path}:{use.line}')} {_code(use.text)}" for use in uses.uses]
    if follows.unclear:
        lines += ["", "**Look at these yourself**", ""]
        lines += [f"- {_code(f'{place.path}:{place.line}')} {_cell(place.reason)}" for place in follows.unclear]
    if follows.skipped:
        lines += ["", "**Not applied**", "", *(f"- {_cell(reason)}" for reason in follows.skipped)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text of a table's cell: on one line, without HTML, and no mention of anybody."""
    plain = " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|")
    return plain.replace("@", "@\u200b")


def _code(text: str) -> str:
    """Text in backticks; a table's cell ends at a bar in them too."""
    return "`" + " ".join(text.replace("`", "'").split()).replace("|", "\\|") + "`"


def certificate_text(found: "Certificate") -> str:
    """Return what a replay has shown."""
    steps = f"steps {found.span.start + 1} to {found.span.until}"
    compared = f"{found.metrics} line{'s' * (found.metrics != 1)} of metrics and {found.tensors} tensors"
    if found.is_verified:
        lines = [f"verified: {steps} are what this code does ({compared}, byte for byte)"]
        if not found.span.has_checkpoint:
            lines.append("no checkpoint of the run ends these steps, so only metrics were compared")
        lines += [f"not as in the run, though without effect: {cause}" for cause in found.causes]
    else:
        lines = [f"differs at step {found.step}: {found.difference}"]
        lines += [f"not as in the run: {cause}" for cause in found.causes]
        if not found.causes:
            lines.append(
                "code, data, versions and threads are as in the run: it does not repeat itself. Does it draw from a generator"
                " of its own, or use a GPU without `deterministic`?"
                if found.code.is_known
                else "the run is of a paccel that recorded neither code nor data, so the cause is not known"
            )
    return "\n".join([*lines, f"code: {found.code.origin}"])


def variants_text(variants: "Sequence[Variant]") -> str:
    """Return a line for each variant: its name, what is tried, and the verdict."""
    if not variants:
        return 'Nothing is being tried; begin with: paccel try "what is tried"'
    width = max(len(variant.name) for variant in variants)
    said = [
        variant.verdict["sentence"] if variant.verdict else f"not run yet; edit {variant.folder}"
        for variant in variants
    ]
    return "\n".join(f"{variant.name:<{width}}  {text}" for variant, text in zip(variants, said, strict=True))


def kept_text(kept: "Kept") -> str:
    """Return what was merged back, and what is left to resolve."""
    if not kept.changed:
        return "The project has these changes already"
    lines = [f"merged    {path}" for path in kept.changed if path not in kept.conflicts]
    lines += [f"conflict  {path}: {reason}" for path, reason in kept.conflicts.items()]
    if kept.conflicts:
        lines.append(
            "Resolve the conflicts in the project, then run the same command again; the variant stays until then"
        )
    return "\n".join(lines)
