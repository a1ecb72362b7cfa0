"""The update robot: its workflow is valid, has no more rights than it needs, and does what it says in a repository."""

import json
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from support.generated import rendered
from support.released import RELEASED, unpacked
from support.sampled import every_third_day
from support.typical_edits import edit

from paccel.files.tree import write_tree
from paccel.upgrade.upgrade import upgrade

WORKFLOW = ".github/workflows/paccel-upgrade.yml"
SCRIPTS = Path(sysconfig.get_path("scripts"))


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("robot")
    tree = rendered("tabular", {"update_robot": True})
    write_tree(root, {WORKFLOW: tree[WORKFLOW]})
    assert WORKFLOW not in rendered("tabular", {})
    return root / WORKFLOW


def steps(text: str) -> dict[str, str]:
    """Name -> script of the steps that have both."""
    found = re.findall(
        r"^      - name: (.+)\n(?:        (?!run:).*\n|          .*\n)*        run: \|\n((?:          .*\n|\n)+)",
        text,
        re.MULTILINE,
    )
    return {name: re.sub(r"^ {10}", "", script, flags=re.MULTILINE) for name, script in found}


def test_the_linter_of_workflows_finds_nothing(workflow: Path) -> None:
    done = subprocess.run(
        [SCRIPTS / "zizmor", "--offline", "--strict-collection", "--pedantic", "--quiet", workflow],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def problems(schema: str, file: Path) -> str:
    """What the schema that a service publishes says of a file; nothing where it fits."""
    command = [SCRIPTS / "check-jsonschema", "--builtin-schema", schema, file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not (SCRIPTS / "check-jsonschema").exists(), reason="needs check-jsonschema")
def test_the_workflow_and_the_recipes_fit_the_schemas_of_their_services(workflow: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "upgrade.md").read_text(encoding="utf-8")
    gitlab, renovate = tmp_path / ".gitlab-ci.yml", tmp_path / "renovate.json"
    gitlab.write_text(re.findall(r"^### GitLab$.*?^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0])
    renovate.write_text(re.findall(r"^### Renovate$.*?^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0])
    assert problems("vendor.github-workflows", workflow) == ""
    assert problems("vendor.gitlab-ci", gitlab) == ""
    assert problems("vendor.renovate", renovate) == ""
    (pattern,) = json.loads(renovate.read_text())["customManagers"][0]["matchStrings"]
    manifest = (unpacked(RELEASED / "0.1.0" / "tabular-default", tmp_path) / ".paccel" / "manifest.json").read_text()
    assert re.findall(pattern.replace("?<", "?P<"), manifest) == ["0.1.0"]
    gitlab.write_text("job: {script: 1}")
    assert problems("vendor.gitlab-ci", gitlab) != ""


def test_every_action_is_pinned_to_a_commit_and_no_right_is_given_to_all_jobs(workflow: Path) -> None:
    text = workflow.read_text()
    used = re.findall(r"- uses: (\S+)", text)
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) for action in used)
    assert "\npermissions: {}\n" in text
    assert re.findall(r"^ +([\w-]+): write", text, re.MULTILINE) == ["contents", "pull-requests", "statuses"]
    # What comes from outside reaches a script as a variable of its environment, never as its text.
    assert all("${{" not in script for script in steps(text).values())


class Repository:
    """A project in a clone, its origin, and a `gh` that writes down what it is asked."""

    def __init__(self, tmp_path: Path, scripts: dict[str, str]) -> None:
        self.tmp, self.scripts = tmp_path, scripts
        self.root = unpacked(RELEASED / "0.1.0" / "tabular-default", tmp_path)
        self.origin, self.log, self.outputs = tmp_path / "origin.git", tmp_path / "gh.log", tmp_path / "outputs"
        fake = tmp_path / "bin" / "gh"
        fake.parent.mkdir()
        fake.write_text('#!/bin/sh\nprintf "%s\\n" "$*" >> "$GH_LOG"\n')
        fake.chmod(0o755)
        self.environment = os.environ | {
            "PATH": os.pathsep.join([str(fake.parent), str(SCRIPTS), os.environ["PATH"]]),
            "HOME": str(tmp_path),
            "GIT_CONFIG_NOSYSTEM": "1",
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_OUTPUT": str(self.outputs),
            "GITHUB_REPOSITORY": "team/project",
            "GITHUB_REF_NAME": "main",
            "GH_LOG": str(self.log),
        }

    def commit(self) -> None:
        self.bash("git init -q -b main . && git config user.name me && git config user.email me@example.org")
        self.bash(f"git add --all && git commit -qm all && git init -q --bare {self.origin}")
        self.bash(f"git remote add origin {self.origin} && git push -q origin main")

    def bash(self, script: str, root: Path | None = None, code: int = 0) -> str:
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=root or self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def run_robot(self) -> str:
        """Run the two steps; return the branch that it pushed."""
        self.bash(self.scripts["Look for an upgrade"])
        if "code=10" not in self.outputs.read_text():
            return ""
        self.bash(self.scripts["Merge it and open a pull request"])
        return self.bash("git branch --show-current").strip()


@pytest.fixture
def repository(tmp_path: Path, workflow: Path) -> Repository:
    if shutil.which("jq") is None or shutil.which("bash") is None:
        pytest.skip("needs jq, which GitHub's machines have")
    return Repository(tmp_path, steps(workflow.read_text()))


@pytest.mark.slow
def test_an_upgrade_is_proposed_once_with_its_reasons(repository: Repository) -> None:
    edit(repository.root, [("train.py", r"(?<=    learning_rate: float = )\S+", "0.0123")])
    repository.commit()
    branch = repository.run_robot()
    assert branch.startswith("paccel-upgrade-")
    body = (repository.tmp / "body.md").read_text()
    assert "| `train.py` | merged | has your edits and the template's changes" in body
    log = repository.log.read_text()
    assert f"pr create --head {branch} --base main" in log
    assert "state=success" in log
    assert "0.0123" in repository.bash(f"git --git-dir {repository.origin} show {branch}:train.py")
    repository.bash("git switch -q main")
    assert repository.run_robot() == "main"
    assert repository.log.read_text().count("pr create") == 1


@pytest.mark.slow
@every_third_day(2)
def test_conflicts_make_the_check_fail_until_they_are_resolved_on_the_branch(repository: Repository) -> None:
    root = repository.root
    edit(root, [("train.py", r"(?m)^    width: int = .*$", "    width: int = 5  # my own")])
    repository.commit()
    branch = repository.run_robot()
    assert "state=failure" in repository.log.read_text()
    assert "**Conflicts** in `train.py`" in (repository.tmp / "body.md").read_text()
    clone = repository.tmp / "clone"
    repository.bash(f"git clone -q --branch {branch} {repository.origin} {clone}", repository.tmp)
    repository.bash(repository.scripts["Conflicts are resolved"], clone, code=1)
    repository.bash("paccel upgrade --continue", clone, code=3)
    text = (clone / "train.py").read_text()
    text = re.sub(r"(?s)<<<<<<< [^\n]*\n(.*?)\|\|\|\|\|\|\|.*?>>>>>>> [^\n]*\n", r"\1", text)
    (clone / "train.py").write_text(text)
    repository.bash("paccel upgrade --continue", clone)
    repository.bash("git add --all && git -c user.name=me -c user.email=me@example.org commit -qm resolved", clone)
    assert json.loads(repository.bash("paccel upgrade --check --json", clone))["found"] is False
    fresh = repository.tmp / "fresh"
    repository.bash(f"git clone -q {clone} {fresh}", repository.tmp)
    repository.bash(repository.scripts["Conflicts are resolved"], fresh)
    assert "width: int = 5  # my own" in (fresh / "train.py").read_text()


@pytest.mark.slow
def test_nothing_happens_where_nothing_has_changed(repository: Repository) -> None:
    assert upgrade(repository.root).state == "done"
    repository.commit()
    assert repository.run_robot() == ""
    assert not repository.log.exists()


@pytest.mark.slow
@every_third_day(0)
def test_the_recipe_for_gitlab_pushes_the_merge_and_fails_where_there_are_conflicts(repository: Repository) -> None:
    text = (Path(__file__).parents[2] / "docs" / "upgrade.md").read_text(encoding="utf-8")
    block = re.findall(r"^### GitLab$.*?^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    job, check = (re.findall(r"^    - (?!if: )(.+)$", part, re.MULTILINE) for part in block.split("\n\n"))
    assert (job[0], len(check)) == ("pip install paccel", 1)
    edit(repository.root, [("train.py", r"(?m)^    width: int = .*$", "    width: int = 5  # my own")])
    repository.commit()
    address = "https://robot:secret@gitlab.example/team/project.git"
    repository.bash(f"git config url.{repository.origin}.insteadOf {address}")
    repository.bash(f"git -C {repository.origin} config receive.advertisePushOptions true")
    repository.environment |= {
        "CI_PIPELINE_ID": "7",
        "CI_SERVER_HOST": "gitlab.example",
        "CI_PROJECT_PATH": "team/project",
        "UPGRADE_TOKEN": "secret",
    }
    repository.bash("\n".join(job[1:]).replace("/tmp/", f"{repository.tmp}/"), code=1)
    pushed = f"git --git-dir {repository.origin}"
    assert "<<<<<<<" in repository.bash(f"{pushed} show paccel-upgrade-7:train.py")
    assert "**Conflicts** in `train.py`" in repository.bash(f"{pushed} log -1 --format=%B paccel-upgrade-7")
    repository.bash(check[0], code=1)
