"""The code that a run records: hashes of its source files, and their changes since the git commit."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from paccel.runtime.record.sources import changed_files, read_sources

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "train.py").write_text("x = 1\n")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "old.py").write_text("")
    return tmp_path


def commit(project: Path) -> None:
    (project / ".gitignore").write_text("runs/\nignored.py\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=project, check=True)


def test_without_git_the_hashes_of_the_files_are_recorded(project: Path) -> None:
    found = read_sources()
    assert found.code["files"] == {"train.py": hashlib.sha256(b"x = 1\n").hexdigest()}
    assert (found.commit, found.patch) == (None, None)


def test_files_of_submodules_are_recorded_too(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    library = tmp_path_factory.mktemp("library")
    (library / "layers.py").write_text("y = 1\n")
    commit(library)
    commit(project)
    command = ["git", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "lib"]
    subprocess.run(command, cwd=project, check=True)
    found = read_sources()
    assert found.code["files"]["lib/layers.py"] == hashlib.sha256(b"y = 1\n").hexdigest()


def test_a_clean_commit_has_no_patch(project: Path) -> None:
    commit(project)
    found = read_sources()
    assert found.commit is not None
    assert len(found.commit) == 40
    assert found.patch is None
    assert "left_out" not in found.code


def test_the_patch_turns_the_commit_into_the_files(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    commit(project)
    (project / "train.py").write_text("x = 2  # é")
    (project / "new name.py").write_text("y = 1\n")
    (project / "ignored.py").write_text("")
    (project / "notes.txt").write_text("not code")
    found = read_sources()
    assert found.commit is not None
    assert found.commit.endswith("+")
    assert sorted(found.code["files"]) == ["new name.py", "train.py"]
    assert found.patch is not None
    assert b"ignored" not in found.patch
    assert b"notes" not in found.patch
    clone = tmp_path_factory.mktemp("clone")
    subprocess.run(["git", "clone", "-q", str(project), "."], cwd=clone, check=True)
    subprocess.run(["git", "apply", "-"], cwd=clone, input=found.patch, check=True)
    for name in ("train.py", "new name.py"):
        assert (clone / name).read_bytes() == (project / name).read_bytes()


@pytest.mark.parametrize(
    "line",
    [
        'API_KEY = "a8f5f167f44f4964e6c998dee827110c"',
        'login(token="hf_abcdefghijklmnopqrstuvwxyz")',
        'url = "https://me:hunter22@example.org/data"',
        "-----BEGIN RSA PRIVATE KEY-----",
        'password = "hunter2"',
        'connect(passwd="Tr0ub4dor&3xyz!")',
        "db = {'user': 'me', 'password': 'correct horse'}",
        'api_key: str = "0123456789abcdef"',
        "TOKEN = 'AbCdEfGhIjKlMnOpQrStUv'",
        'SECRET = """abc123def456ghi"""',
        "# export WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567",
        'headers = {"Authorization": "Bearer abcdefghijklmnop.qrstuvwxyz"}',
        'url = "redis://:s3cretpw@host"',
        'url = "https://x.blob.core.windows.net/c?sv=2020&sig=abcdefghij%2Bklmnopqrst%3D"',
        'hook = "https://hooks.slack.com/services/T0/B0/XX"',
        'x = "glpat-12345678901234567890"',
        'x = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc"',
    ],
)
def test_a_file_with_a_secret_is_left_out_and_named(project: Path, line: str) -> None:
    commit(project)
    (project / "train.py").write_text(f"{line}\n")
    (project / "other.py").write_text("z = 3\n")
    found = read_sources()
    assert found.code["left_out"] == {"train.py": "something in its changes looks like a secret"}
    assert found.patch is not None
    assert line.encode() not in found.patch
    assert b"z = 3" in found.patch


@pytest.mark.parametrize(
    "line",
    [
        'pad_token = "<|endoftext|>"',
        'key = "learning_rate"',
        'token = os.environ["HF_TOKEN"]',
        "token = secrets.token_hex(16)",
        'password = getpass("Password: ")',
        'url = f"https://{user}.example.org"',
        "device = self.hf_device_map.values()",
        "sorted(rows, key=sequence_of_hidden_states_2)",
        'tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")',
    ],
)
def test_text_that_is_no_secret_stays(project: Path, line: str) -> None:
    commit(project)
    (project / "train.py").write_text(f"{line}\n")
    found = read_sources()
    assert found.patch is not None
    assert line.encode() in found.patch


def test_a_patch_that_is_too_large_is_left_out(project: Path) -> None:
    commit(project)
    for number in range(3):
        (project / f"table{number}.py").write_text("x = 1\n" * 100_000)
    found = read_sources()
    assert found.patch is None
    assert "more than 1024" in found.code["left_out"]["*"]


def test_changed_files_are_named_and_an_older_run_has_none() -> None:
    now = {"files": {"a.py": "1", "b.py": "2"}}
    assert changed_files({"files": {"a.py": "1", "b.py": "3", "c.py": "4"}}, now) == ["b.py", "c.py"]
    assert changed_files(None, now) == []
