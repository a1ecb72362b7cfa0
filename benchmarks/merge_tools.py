"""The compared tools: each creates a project, edits it, changes the template and upgrades."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.merge_cases import Case, Entry, read_files, write_files
from support.merge_score import Result

Tool = Callable[[Path, Case], Result]

TIMEOUT_SECONDS = 120
PROJECT = "{{cookiecutter.project_name}}"
COOKIECUTTER = {"project_name": "digits", "_copy_without_render": ["*"]}


def call(*command: str, at: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with an empty home folder and without user settings."""
    home = at / ".home" if at.name == "work" else at.parent / ".home"
    home.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "NO_COLOR": "1",
        **{
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "a"), ("EMAIL", "a@b"))
        },
    }
    done = subprocess.run(
        command,
        cwd=at,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done


def commit(folder: Path, tag: str = "") -> None:
    """Commit everything, ignored files too."""
    if not (folder / ".git").exists():
        call("git", "init", "-q", at=folder)
        call("git", "config", "core.autocrlf", "false", at=folder)
    call("git", "add", "-A", "-f", at=folder)
    call("git", "commit", "-q", "--allow-empty", "-m", "a commit", at=folder)
    if tag:
        call("git", "tag", tag, at=folder)


def result(project: Path, done: subprocess.CompletedProcess[str], own: tuple[str, ...]) -> Result:
    unmerged = False
    if (project / ".git").exists():
        status = call("git", "status", "--porcelain", at=project).stdout
        unmerged = any(line[:2] in {"UU", "AA", "DD", "AU", "UA", "DU", "UD"} for line in status.splitlines())
    traceback = "Traceback (most recent call last)" in done.stdout + done.stderr or "Traceback" in done.stderr
    return Result(read_files(project), done.returncode, traceback, unmerged, own)


WITHOUT_TOOLS = """
from paccel.check import tools
from paccel.cli import main

tools.find_tools = lambda python: ([], ["ty", "ruff"])
main()
"""


def paccel(folder: Path, case: Case, upgrade: Sequence[str] = ("paccel",)) -> Result:
    template, project = folder / "template", folder / "digits"
    write_files(template / PROJECT, {}, case.base)
    (template / "cookiecutter.json").write_text(json.dumps(COOKIECUTTER))
    call("paccel", "new", "digits", "--template", str(template), "--no-input", at=folder)
    write_files(project, case.base, case.ours)
    write_files(template / PROJECT, case.base, case.theirs)
    done = call(*upgrade, "upgrade", at=project, check=False)
    shutil.rmtree(project / ".paccel" / "undo", ignore_errors=True)  # backups do not count as kept
    shutil.rmtree(project / ".paccel" / "upgrade", ignore_errors=True)
    return result(project, done, (".paccel",))


def paccel_alone(folder: Path, case: Case) -> Result:
    """paccel as if ty and ruff were not installed."""
    return paccel(folder, case, (sys.executable, "-c", WITHOUT_TOOLS))


def copier(folder: Path, case: Case) -> Result:
    template, project = folder / "template", folder / "digits"
    write_files(template / "files", {}, case.base)
    (template / "copier.yml").write_text("_subdirectory: files\n_templates_suffix: .jinja\n")
    answers = template / "files" / "{{_copier_conf.answers_file}}.jinja"
    answers.write_text("{{ _copier_answers|to_nice_yaml -}}\n")
    commit(template, "1.0.0")
    call("copier", "copy", "--defaults", "-q", "--vcs-ref", "1.0.0", str(template), str(project), at=folder)
    commit(project)
    write_files(project, case.base, case.ours)
    commit(project)
    write_files(template / "files", case.base, case.theirs)
    commit(template, "2.0.0")
    done = call("copier", "update", "--defaults", "--vcs-ref", "2.0.0", at=project, check=False)
    return result(project, done, (".copier-answers.yml",))


def cruft(folder: Path, case: Case) -> Result:
    template, project = folder / "template", folder / "digits"
    write_files(template / PROJECT, {}, case.base)
    (template / "cookiecutter.json").write_text(json.dumps(COOKIECUTTER))
    commit(template)
    call("cruft", "create", str(template), "--no-input", "--output-dir", str(folder), at=folder)
    commit(project)
    write_files(project, case.base, case.ours)
    commit(project)
    write_files(template / PROJECT, case.base, case.theirs)
    commit(template)
    done = call("cruft", "update", "-y", at=project, check=False)
    return result(project, done, (".cruft.json",))


def git(folder: Path, case: Case) -> Result:
    """Take the side that changed a file, or `git merge-file` if both did; an edit against a deletion is reported."""
    base, ours, theirs = case.base, case.ours, case.theirs
    merged = dict(ours)
    conflicts = 0
    for path in sorted(base.keys() | theirs.keys()):
        was, mine, new = base.get(path), ours.get(path), theirs.get(path)
        if mine == new or new == was:
            continue
        if mine == was:
            merged.pop(path, None)
            if new is not None:
                merged[path] = new
        elif mine is None or new is None or mine.kind == "link":
            conflicts += mine is not None  # a file that the user deleted stays deleted
        else:
            merged[path], clean = _merge_file(folder, was or Entry(b""), mine, new)
            conflicts += not clean
    return Result(merged, exit_code=min(conflicts, 1))


def _merge_file(folder: Path, base: Entry, ours: Entry, theirs: Entry) -> tuple[Entry, bool]:
    for name, entry in (("base", base), ("ours", ours), ("theirs", theirs)):
        (folder / name).write_bytes(entry.content)
    command = ["git", "merge-file", "-p", "--diff3", "ours", "base", "theirs"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)
    if done.returncode > 127:  # binary
        return ours, False
    kind = theirs.kind if ours.kind == base.kind else ours.kind
    return Entry(done.stdout, kind), done.returncode == 0


TOOLS: Mapping[str, Tool] = {
    "paccel": paccel,
    "paccel-alone": paccel_alone,
    "copier": copier,
    "cruft": cruft,
    "git": git,
}
