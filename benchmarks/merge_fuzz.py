"""Merge random edits of real files, and search for a merge that breaks a law.

    python benchmarks/merge_fuzz.py [N] [--seed SEED] [--keep FOLDER]

Draws N pairs of edits; each is merged about seven times to check the laws. Prints each counter-example, minimized, and then
the number of merges, their time and the slowest one. The laws and the edits are in `tests/support/merge_fuzz.py`. Exits with
1 if a law was broken.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import sampled
from support.merge_fuzz import MergeResult, Triple, broken_laws, drawn, files, merge, minimized, written

from paccel.merge.diff3 import merge3
from paccel.merge.text import decode


def by_lines(triple: Triple) -> float:
    """CPU seconds of diff3 alone."""
    lines = [decode(text.encode()).lines for text in triple.texts]
    start = time.thread_time()
    merge3(*lines)
    return time.thread_time() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", nargs="?", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=sampled.SEED, help="by default the seed of the day")
    parser.add_argument("--first", type=int, default=0, help="start at this pair")
    parser.add_argument("--keep", type=Path, help="write counter-examples there")
    options = parser.parse_args()
    print(f"{options.count} pairs of edits, seed {options.seed}", flush=True)
    found = files()
    slowest: tuple[float, float, int, str] = (0.0, 0.0, 0, "")
    clean = broken = merges = 0
    seconds = 0.0

    def timed(triple: Triple) -> MergeResult:
        nonlocal seconds, slowest, merges
        start = time.thread_time()
        result = merge(triple)
        took = time.thread_time() - start
        seconds += took
        merges += 1
        if took > slowest[0]:
            slowest = took, by_lines(triple), number, triple.path
        return result

    begin = time.monotonic()
    for number in range(options.first, options.first + options.count):
        triple = drawn(options.seed * 1_000_000 + number, found)
        laws = broken_laws(triple, timed)
        clean += not merge(triple).conflicts
        for law in laws:
            broken += 1
            small = minimized(triple, lambda it, law=law: law in broken_laws(it))  # type: ignore[misc]
            print(f"\n=== pair {number} of {triple.path} breaks: {law}\n{written(small, law)}", flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{options.seed}-{number}.toml").write_text(written(small, law), encoding="utf-8")
    took, plain, number, path = slowest
    print(
        f"{options.count} pairs of edits ({clean} merge cleanly), {merges} merges, {broken} counter-examples, {seconds:.0f} s of CPU in merges, "
        f"{time.monotonic() - begin:.0f} s in all; slowest merge {took:.2f} s, diff3 alone {plain * 1000:.1f} ms "
        f"(pair {number}, {path})"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
