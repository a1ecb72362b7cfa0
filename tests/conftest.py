"""What all tests share."""

import os
import sys
from collections.abc import Iterator

import black
import pytest
from support import sampled

from paccel.check import tools

REAL_FIND_TOOLS = tools.find_tools

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # workers whose threads wait for each other's cores take twice as long


def pytest_report_header() -> str:
    if sampled.ALL:
        return "everything, nothing sampled"
    return f"sampled with PACCEL_SEED={sampled.SEED}; PACCEL_ALL=1 runs everything"


@pytest.fixture(scope="session", autouse=True)
def format_once() -> Iterator[None]:
    """Let black format each text once: it has no state, and the tests render the same files many hundred times."""
    done: dict[tuple[str, str], str] = {}
    real = black.format_str

    def format_str(src_contents: str, *, mode: black.Mode) -> str:
        key = src_contents, mode.get_cache_key()
        if key not in done:
            done[key] = real(src_contents, mode=mode)
        return done[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(black, "format_str", format_str)
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
