"""Keep what this version of paccel generates, so that later versions are tested on it.

    python tests/released/freeze.py            # once, when a version is released
    python tests/released/freeze.py --again    # before it is out: write the same version's projects anew

`tests/released/<version>/<template>-<answers>/` is a whole project, as `paccel new` makes it, with its `.paccel`.
"""

import argparse
import shutil
import sys
from pathlib import Path

from paccel import __version__
from paccel.project.state import Manifest
from paccel.catalog.catalog import bundled_names
from paccel.catalog.catalog import load_template
from paccel.project.folder import create_project
from paccel.catalog.questions import Answer
from paccel.catalog.questions import resolve_answers
from paccel.render.render import render

HERE = Path(__file__).parent


def freeze(target: Path) -> list[Path]:
    """Write two projects of each bundled template below `target`: the defaults, and every question answered otherwise."""
    made: list[Path] = []
    for name in bundled_names():
        template = load_template(name)
        others: dict[str, Answer] = {
            question.name: question.choices[-1] if question.choices else not question.default
            for question in template.questions
            if question.kind != "text"
        }
        for label, given in (("default", {}), ("other", others)):
            answers = resolve_answers(template, given, project_name="my-project")
            tree = render(template, answers)
            project = target / f"{name}-{label}"
            create_project(project, Manifest.of(template.ref, answers, tree), tree)
            made.append(project)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--again", action="store_true", help="replace the projects of this version")
    again = parser.parse_args().again
    target = HERE / __version__
    if target.exists() and not again:
        print(f"`{target}` exists: a released version stays as it was; `--again` replaces one that is not out yet")
        return 3
    shutil.rmtree(target, ignore_errors=True)
    for project in freeze(target):
        print(project.relative_to(HERE))
    return 0


if __name__ == "__main__":
    sys.exit(main())
