"""The profiled steps leave a trace."""

import json

import train


def test_the_profiled_steps_are_in_a_trace(tmp_path, settings):
    run_dir = tmp_path / "run"
    train.main(train.Config(run_dir=run_dir, max_steps=6, profile_from=3, profile_steps=2, trackers=(), **settings))

    traces = list((run_dir / "profile").glob("*.pt.trace.json"))
    assert len(traces) == 1
    names = {event.get("name") for event in json.loads(traces[0].read_text())["traceEvents"]}
    assert {name for name in names if name.startswith("ProfilerStep")} == {"ProfilerStep#2", "ProfilerStep#3"}
