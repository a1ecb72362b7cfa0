"""The notebook runs from the first cell to the last."""

from ast import literal_eval
from pathlib import Path

from nbclient import NotebookClient
import nbformat

import train

FOLDER = Path(train.__file__).parent


def test_the_notebook_trains_and_shows_curves_and_scores(tmp_path, settings):
    notebook = nbformat.read(FOLDER / "train.ipynb", as_version=4)
    nbformat.validate(notebook)
    small = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    small |= {"run_dir": str(tmp_path / "run"), "max_steps": 2, "trackers": ()}
    as_paths = f"[setattr(config, k, Path(v) if k.endswith('_dir') else v) for k, v in {small!r}.items()];"
    index = next(index for index, cell in enumerate(notebook.cells) if cell.id == "settings")
    notebook.cells.insert(index + 1, nbformat.v4.new_code_cell(as_paths))
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(FOLDER)}}).execute()

    shown = {cell.id: [output.get("data", {}) for output in cell.outputs] for cell in notebook.cells if "outputs" in cell}
    assert "image/png" in shown["curves"][-1]
    scores = literal_eval(shown["scores"][-1]["text/plain"])
    assert scores
    assert all(isinstance(score, float) for score in scores.values())
