"""Export the weights of a run to safetensors, torch.export and ONNX, each checked against the model.

    python export.py                                      the best weights of the newest run, into its export/ folder
    python export.py --run-dir runs/NAME --formats onnx

Load the torch.export file with torch.export.load(FILE).module(). Neither it nor ONNX needs this project's code.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
import shutil
from typing import Any, Literal

import onnx
from onnx.reference import ReferenceEvaluator
from paccel.runtime import Run, exit_with_message, load_config, load_run
