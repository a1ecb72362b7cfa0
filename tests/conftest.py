"""What all tests share."""

import gc
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import black
import pytest
from support import sampled

from paccel.check import tools

REAL_FIND_TOOLS = tools.find_tools
SLOW_FILE = re.compile(r"^pytestmark = \[?pytest\.mark\.slow\b", re.MULTILINE)

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # workers whose threads wait for each other's cores take twice as long


def pytest_report_header() -> str:
    if sampled.ALL:
        return "everything, nothing sampled"
    return f"sampled with PACCEL_SEED={sampled.SEED}; PACCEL_ALL=1 runs everything"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The quick suite does not read files that are slow as a whole: some import for seconds."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return True if SLOW_FILE.search(collection_path.read_text(encoding="utf-8")) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each worker its files with slow tests first: at the end, quick tests keep all of them busy."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
    if not workers or config.option.markexpr == "not slow":
        return
    files = {item.path: False for item in items}
    for item in items:
        files[item.path] |= item.get_closest_marker("slow") is not None
    slow_first = sorted(files, key=lambda path: not files[path])  # stable: each kind stays in its order
    # xdist cuts the list into one piece per worker
    place = {path: (number % workers, number) for number, path in enumerate(slow_first)}
    items.sort(key=lambda item: place[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported for the tests stays: nothing is gained by looking for garbage among a million objects of it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # libraries that look for what they left behind would find it


@pytest.fixture(scope="session", autouse=True)
def format_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let black format each text once: it has no state, and the tests render the same files many hundred times.

    The workers of one run of pytest share long texts in a folder; a text that black refuses is refused anew.
    """
    done: dict[tuple[str, str], str] = {}
    real = black.format_str
    workers = tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else None

    def shared(src_contents: str, mode: black.Mode) -> str:
        if workers is None or len(src_contents) < 500:
            return real(src_contents, mode=mode)
        name = hashlib.sha256(f"{mode.get_cache_key()}\0{src_contents}".encode(errors="surrogatepass")).hexdigest()
        kept = workers / "formatted" / name
        if kept.exists():
            return kept.read_bytes().decode()
        text = real(src_contents, mode=mode)
        kept.parent.mkdir(exist_ok=True)
        mine = kept.with_suffix(f".{os.getpid()}")
        mine.write_bytes(text.encode())
        mine.replace(kept)
        return text

    def format_str(src_contents: str, *, mode: black.Mode) -> str:
        key = src_contents, mode.get_cache_key()
        if key not in done:
            done[key] = shared(src_contents, mode)
        return done[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(black, "format_str", format_str)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_disks() -> Iterator[None]:
    """Nothing that a test writes has to outlive a power cut: each of some ten thousand calls of fsync takes milliseconds.

    What is synced, and when, is tested with calls that are recorded; the processes that tests start do sync.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: os.fstat(file) and None)  # a file that is not open is still an error
        yield


@pytest.fixture(scope="session", autouse=True)
def no_check_tools() -> Iterator[None]:
    """Upgrades start no type checker and no linter, unless a test asks for `check_tools`: hundreds of tests upgrade."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tools, "find_tools", lambda python: ([], []))
        yield


@pytest.fixture
def check_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tools that check a merged project; the test is skipped where they are not installed."""
    monkeypatch.setattr(tools, "find_tools", REAL_FIND_TOOLS)
    missing = REAL_FIND_TOOLS(sys.executable)[1]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
