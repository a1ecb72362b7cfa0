"""The flags of the suite, and what all of its tests share."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

EVERYTHING = pytest.StashKey[bool]()
SEED = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-snapshots", action="store_true", help="write tests/snapshots again, for review")
    parser.addoption(
        "--all",
        action="store_true",
        default=os.environ.get("PACCEL_ALL") == "1",
        help="run every kill point and every cut, not this day's sample of them; or PACCEL_ALL=1",
    )


def pytest_configure(config: pytest.Config) -> None:
    today = datetime.now(UTC).date().toordinal()
    config.stash[SEED] = int(os.environ.get("PACCEL_SEED", today))
    config.stash[EVERYTHING] = config.getoption("--all")


def pytest_report_header(config: pytest.Config) -> str:
    if config.stash[EVERYTHING]:
        return "kill points: all of them"
    return (
        f"kill points: a sample, drawn with PACCEL_SEED={config.stash[SEED]} (one seed a day); --all runs all of them"
    )


@pytest.fixture(scope="session", autouse=True)
def format_once() -> Iterator[None]:
    """Let black format each text once: it has no state, and the tests render the same files many hundred times."""
    import black

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
