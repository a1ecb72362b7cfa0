"""The pytest plugin: the fixture `paccel_template` and the option `--update-snapshots`.

pytest loads this file wherever paccel is installed, even for projects that never use it. So it imports nothing but pytest,
and does not add the option if another plugin has one of that name.
"""

import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .template import TemplateTester


SNAPSHOTS = "snapshots"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("paccel_template", "the template that the fixture paccel_template tests, relative to the rootdir")
    parser.addini(
        "paccel_snapshots", "the folder of its snapshots, relative to the rootdir (default: next to the test)"
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(parser: pytest.Parser) -> Generator[None]:
    """Add the option after all others: if another plugin has one of that name, adding it first would break that plugin."""
    yield
    with contextlib.suppress(ValueError):
        parser.getgroup("paccel").addoption(
            "--update-snapshots", action="store_true", help="update the snapshots of paccel_template, for review"
        )


def pytest_ignore_collect(collection_path: "Path", config: pytest.Config) -> bool | None:
    """Skip the tests of generated projects in the template itself and in its snapshots."""
    if not collection_path.is_dir():
        return None
    if "cookiecutter." in collection_path.name:
        return True
    named = config.getini("paccel_snapshots")
    if named:
        return True if collection_path == config.rootpath / named else None
    is_snapshots = collection_path.name == SNAPSHOTS and _template_above(collection_path) is not None
    return True if is_snapshots else None


@pytest.fixture
def paccel_template(request: pytest.FixtureRequest, tmp_path: "Path") -> "TemplateTester":
    """A template to render, compare with snapshots, run and upgrade; see docs/your-own-templates.md.

    It is the template that the ini option `paccel_template` names, else the one of the nearest `cookiecutter.json` above
    the test. `paccel_template.at(SOURCE)` returns another one.
    """
    from .template import TemplateTester

    root, here = request.config.rootpath, request.path.parent
    named, snapshots = request.config.getini("paccel_template"), request.config.getini("paccel_snapshots")
    above = _template_above(here)
    return TemplateTester(
        source=str(root / named) if named else str(above or ""),
        base=root,
        snapshots=root / snapshots if snapshots else here / SNAPSHOTS,
        scratch=tmp_path,
        update=bool(request.config.getoption("update_snapshots", default=False)),
    )


def _template_above(folder: "Path") -> "Path | None":
    return next((one for one in (folder, *folder.parents) if (one / "cookiecutter.json").is_file()), None)
