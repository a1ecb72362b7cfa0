"""The search runs trials, continues an earlier study, prunes a hopeless trial and prints the best."""

import json
from pathlib import Path

from optuna.trial import TrialState, create_trial
import pytest

import search


@pytest.fixture
def chosen(tmp_path, settings, monkeypatch):
    """A search over very short runs, started in the project folder."""
    monkeypatch.chdir(Path(search.__file__).parent)
    fixed = {**settings, "max_steps": 4, "eval_every": 2}
    values = {name: str(value) if isinstance(value, Path) else value for name, value in fixed.items()}
    toml = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    (tmp_path / "fixed.toml").write_text(toml + "trackers = []\n")
    return search.SearchConfig(trials=1, study=tmp_path / "study", startup_trials=1, fixed=tmp_path / "fixed.toml")


def test_a_search_continues_and_prunes_hopeless_trials(chosen, capsys):
    best = search.main(chosen)
    assert [name.partition("=")[0] for name in best] == ["--learning-rate", "--warmup-ratio"]
    assert "python train.py --learning-rate=" in capsys.readouterr().out

    study = search.open_study(chosen)
    (first,) = study.trials
    assert first.state is TrialState.COMPLETE
    assert sorted(first.intermediate_values) == [2, 4]
    assert json.loads((chosen.study / "trial-0" / "status.json").read_text())["state"] == "finished"
    perfect = -1e9 if chosen.direction == "minimize" else 1e9
    scores = {2: perfect, 4: perfect}
    study.add_trial(
        create_trial(params=first.params, distributions=first.distributions, intermediate_values=scores, value=perfect)
    )
    chosen.fixed.write_text(chosen.fixed.read_text().replace("max_steps = 4", "max_steps = 5000"))
    chosen.trials = 3
    search.main(chosen)
    assert [trial.state for trial in study.get_trials()][2] is TrialState.PRUNED
    assert json.loads((chosen.study / "trial-2" / "status.json").read_text())["state"] == "stopped"
