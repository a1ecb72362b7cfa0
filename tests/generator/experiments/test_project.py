"""`verify`, `repeat` and `try` in a trained project in git, with data that git ignores and uncommitted edits."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.sampled import every_third_day

from paccel.catalog.catalog import load_template
from paccel.experiments.keep import keep
from paccel.experiments.variant import begin, drop, find_variant, read_variants
from paccel.files.tree import write_tree
from paccel.render.render import render

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Cli = Callable[..., Any]
OLD = "digits = load_digits()\n    images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)"
NEW = 'images, labels = torch.load("data/digits.pt")'


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose run `runs/a` has two checkpoints, with an uncommitted edit and data in a folder that git ignores."""
    from sklearn.datasets import load_digits

    root = tmp_path_factory.mktemp("project") / "net"
    root.mkdir()
    write_tree(root, render(load_template("minimal"), {"project_name": "net"}))
    digits = load_digits()
    (root / "data").mkdir()
    torch.save((torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)), root / "data" / "digits.pt")
    (root / ".gitignore").write_text("data/\nruns/\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    edit(root / "train.py", OLD, NEW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        command = ["python", "train.py", "--epochs", "2", "--run-dir", "runs/a"]
        subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=300)
    return root


@pytest.fixture
def project(trained: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_PROJECT_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    root = work / "net"
    shutil.copytree(trained, root, symlinks=True)
    monkeypatch.chdir(root)
    return root


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestVerify:
    @every_third_day(2)
    def test_the_code_of_the_run_is_replayed_whatever_was_edited_since(self, project: Path, paccel: Cli) -> None:
        assert "torch.load" in (project / "runs" / "a" / "code.patch").read_text()
        edit(project / "train.py", 'reduction="sum"), logits', 'reduction="sum") * 1.001, logits')
        before = content(project / "runs" / "a")
        status = git(project, "status", "--short")
        done = paccel("verify", "runs/a", "--certificate", "certificate.json")
        assert done.code == 0
        assert done.out.startswith("verified: this code reproduces steps 20 to 38")
        assert "and its code.patch" in done.out
        certificate = json.loads((project / "certificate.json").read_text())
        assert (certificate["verdict"], certificate["causes"]) == ("verified", [])
        assert certificate["compared"]["tensors"] > 20
        assert content(project / "runs" / "a") == before
        (project / "certificate.json").unlink()
        assert git(project, "status", "--short") == status

        changed = paccel("verify", "runs/a", "--current", "--json")
        assert changed.code == 1
        assert changed.data["causes"] == ["the code: train.py"]
        assert changed.data["step"] == 38
        assert "`train/loss` is" in changed.data["difference"]

    @every_third_day(0)
    def test_other_data_and_another_number_of_threads_are_named(
        self, project: Path, paccel: Cli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        images, labels = torch.load(project / "data" / "digits.pt")
        torch.save((images * 0.5, labels), project / "data" / "digits.pt")
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        done = paccel("verify", "runs/a", "--json")
        assert done.code == 1
        assert "the number of CPU threads: 1, now 2" in done.data["causes"]
        assert any(cause.startswith("the data") for cause in done.data["causes"])

    @every_third_day(2)
    def test_a_run_of_two_processes_is_replayed_with_two(self, project: Path, paccel: Cli) -> None:
        launcher = ["python", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [*launcher, "train.py", "--epochs", "2", "--run-dir", "runs/two"]
        subprocess.run(command, cwd=project, check=True, capture_output=True, timeout=600)
        done = paccel("verify", "runs/two", "--json")
        assert done.code == 0
        assert (done.data["verdict"], done.data["causes"]) == ("verified", [])
        assert done.data["environment"]["num_processes"] == 2
        assert done.data["compared"]["tensors"] > 20

    @every_third_day(1)
    def test_without_git_and_with_one_checkpoint_it_starts_at_the_beginning(self, project: Path, paccel: Cli) -> None:
        shutil.rmtree(project / ".git")
        shutil.rmtree(project / "runs" / "a" / "checkpoints" / "step-19")
        done = paccel("verify", "runs/a")
        assert done.out.startswith("verified: this code reproduces steps 1 to 38")
        assert done.code == 0


def test_what_is_no_run_is_refused(project: Path, paccel: Cli) -> None:
    done = paccel("verify", "runs")
    assert done.code == 2
    assert "`runs` is not a run directory" in done.err
    (project / "runs" / "a" / "config.json").write_text("{")
    assert paccel("verify", "runs/a").code == 3


@every_third_day(1)
def test_repeat_goes_on_past_a_run_that_fails_and_skips_what_is_finished(project: Path, paccel: Cli) -> None:
    command = ("repeat", "runs/a", "--seeds", "1,", "--set", "epochs=1", "--set", "global_batch_size=-1,64", "--json")
    for expected in ("started", "finished already"):
        done = paccel(*command)
        assert done.code == 1
        assert [run["state"] for run in done.data["runs"]] == ["failed", "finished"]
        assert "must be at least 1" in done.data["runs"][0]["reason"]
        assert f"global_batch_size=64_seed=1: {expected}" in done.err
    assert (project / "runs" / "a-repeat" / "epochs=1_global_batch_size=-1_seed=1.log").is_file()
    assert done.data["comparison"]["groups"][0]["count"] == 1


def test_a_slurm_array_has_one_task_for_each_run(project: Path, paccel: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    done = paccel(
        "repeat", "runs/a", "--seeds", "2", "--set", "learning_rate=1e-3,3e-3", "--slurm", "--jobs", "2", "--json"
    )
    script = Path(done.data["script"]).read_text()
    assert "#SBATCH --array=0-3%2" in script
    assert script.count("exec ") == 4
    assert "learning_rate=0.003_seed=1" in script
    subprocess.run(["bash", "-n", done.data["script"]], check=True)


@every_third_day(2)
def test_an_idea_is_tried_against_the_run_that_it_began_with_and_kept(project: Path, paccel: Cli) -> None:
    (project / "helper.py").write_text("x = 1\n")  # new to git, as the edit of train.py is uncommitted
    before, index = git(project, "status", "--short"), git(project, "diff", "--cached")
    folder = Path(paccel("try", "Higher learning rate!").out.strip())
    assert folder == project / ".tries" / "higher-learning-rate"
    assert NEW in (folder / "train.py").read_text()
    assert (folder / "helper.py").is_file()
    assert (git(project, "status", "--short"), git(project, "diff", "--cached")) == (before, index)
    unchanged = paccel("try", "--run", "higher")
    assert unchanged.code == 3
    assert "Nothing has changed" in unchanged.err

    edit(folder / "train.py", "learning_rate: float = 2e-3", "learning_rate: float = 6e-3")
    done = paccel("try", "--run", "higher", "--json")
    assert done.code == 0
    assert done.data["verdict"]["against"] == "parent"
    assert done.data["verdict"]["difference"] != 0
    assert "+    learning_rate: float = 6e-3" in Path(done.data["patch"]).read_text()
    runs = project / "runs" / "try" / "higher-learning-rate"
    assert json.loads((runs / "variant" / "seed=0" / "config.json").read_text())["settings"]["learning_rate"] == 6e-3
    assert not list(runs.parent.glob("parent-*"))  # the parent itself was as good

    kept = paccel("try", "--keep", "higher")
    assert kept.code == 0
    assert "merged    train.py" in kept.out
    assert "learning_rate: float = 6e-3" in (project / "train.py").read_text()
    assert paccel("try", "--list", "--json").data == {"variants": []}
    assert len(git(project, "worktree", "list").splitlines()) == 1


def test_two_winners_on_the_same_lines_are_a_conflict_and_nothing_is_lost(project: Path, paccel: Cli) -> None:
    for name, rate in (("one", "6e-3"), ("two", "1e-3")):
        variant = begin(project, name)
        edit(variant.folder / "train.py", "learning_rate: float = 2e-3", f"learning_rate: float = {rate}")
        (variant.folder / f"{name}.py").write_text(f"# {name}\n")
    assert [variant.name for variant in read_variants(project)] == ["one", "two"]
    assert paccel("try", "--keep", "one").code == 0
    done = paccel("try", "--keep", "two", "--json")
    assert done.code == 1
    assert list(done.data["conflicts"]) == ["train.py"]
    assert "two.py" in done.data["changed"]
    text = (project / "train.py").read_text()
    assert "<<<<<<< the project" in text
    assert "6e-3" in text
    assert "1e-3" in text
    assert find_variant(project, "two").folder.is_dir()
    drop(find_variant(project, "two"))
    assert read_variants(project) == []
    assert (project / "two.py").is_file()


def test_what_a_variant_removes_is_kept_where_the_project_has_changed_it(project: Path) -> None:
    (project / "helper.py").write_text("x = 1\n")
    variant = begin(project, "no helper")
    (variant.folder / "helper.py").unlink()
    (project / "helper.py").write_text("x = 2\n")
    kept = keep(variant)
    assert "is kept" in kept.conflicts["helper.py"]
    assert (project / "helper.py").read_text() == "x = 2\n"


def test_a_project_without_git_is_told_what_to_do(project: Path, paccel: Cli) -> None:
    shutil.rmtree(project / ".git")
    done = paccel("try", "anything")
    assert done.code == 3
    assert "git init" in done.err
    assert paccel("try").code == 2
    assert paccel("try", "--run", "nothing").code == 2
