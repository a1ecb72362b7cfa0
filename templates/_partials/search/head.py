"""Search for better settings with Optuna. Each trial is one run of train.py.

    python search.py --trials 30                    stop at any time; the same command continues the study
    python search.py --fixed short.toml             settings shared by all trials, as in `train.py --config`

The study is stored in runs/search/journal.log. Several searches on a shared disk can work on the same study.
"""

from dataclasses import dataclass
import json
import math
from pathlib import Path
import shlex
import signal
import subprocess
import sys
import time
from typing import Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from paccel.runtime import exit_with_message, load_config
