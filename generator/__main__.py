"""Start the command line: as `paccel`, and as `python -m paccel`."""

import gc

gc.set_threshold(100_000)  # before any import: collecting takes longer than all but the longest commands' own work

from .cli import main as run  # noqa: E402


def main() -> None:
    """Run the command and exit with its code."""
    try:
        run()
    finally:
        gc.freeze()  # the process ends: what is left need not be searched for cycles once more


if __name__ == "__main__":
    main()
