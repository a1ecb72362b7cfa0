"""A merge case as a project of a template: generated, edited by its user, and upgraded."""

import json
from pathlib import Path
from typing import Any

from paccel.catalog.answers import resolve_answers
from paccel.catalog.catalog import load_template
from paccel.project.folder import create_project
from paccel.project.state import Manifest
from paccel.render.render import render
from paccel.upgrade.upgrade import Outcome, upgrade

from .merge_cases import Case, write_files

PROJECT = "{{cookiecutter.project_name}}"


def upgrade_case(folder: Path, case: Case) -> tuple[Path, Outcome]:
    """Generate the project, make the user's edits, change the template, upgrade; return the project and the result."""
    source, project = folder / "template", folder / "digits"
    write_files(source / PROJECT, {}, case.base)
    settings: dict[str, Any] = {"project_name": "digits", "_copy_without_render": ["*"]}
    (source / "cookiecutter.json").write_text(json.dumps(settings))
    template = load_template(str(source))
    answers = resolve_answers(template, {})
    tree = render(template, answers)
    create_project(project, Manifest.of(template.ref, answers, tree), tree)
    write_files(project, case.base, case.ours)
    write_files(source / PROJECT, case.base, case.theirs)
    return project, upgrade(project)
