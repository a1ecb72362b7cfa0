"""The profiled steps are written to a trace."""

import json

import pytest

import train


def profiled_steps(run_dir):
    """The steps in the trace of a run; the profiler counts from 0."""
    (trace,) = (run_dir / "profile").glob("*.pt.trace.json")
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    return {name for name in names if name.startswith("ProfilerStep")}


def test_the_profiled_steps_are_in_a_trace(tmp_path, settings):
    run_dir = tmp_path / "run"
    train.main(train.Config(run_dir=run_dir, max_steps=6, profile_from=3, profile_steps=2, trackers=(), **settings))
    assert profiled_steps(run_dir) == {"ProfilerStep#2", "ProfilerStep#3"}


@pytest.mark.parametrize("max_steps", [2, 3])
def test_a_run_that_ends_during_profiling_leaves_a_partial_trace(tmp_path, settings, max_steps):
    for name in ("first", "second"):  # a profiler left running would break the second run
        run_dir = tmp_path / name
        config = train.Config(
            run_dir=run_dir, max_steps=max_steps, profile_from=3, profile_steps=2, trackers=(), **settings
        )
        train.main(config)
        if max_steps == 3:
            assert "ProfilerStep#2" in profiled_steps(run_dir)
