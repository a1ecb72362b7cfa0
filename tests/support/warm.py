"""Imports that each run needs; tests fork their processes from one that has imported this module."""

import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401  draws curves
import pytest  # noqa: F401  runs the tests of projects
import sklearn.datasets  # noqa: F401  the data of most projects
import torch._dynamo  # noqa: F401  imported when an optimizer is created
import torchvision  # noqa: F401
from accelerate.utils.other import extract_model_from_parallel
from torch import nn

from support import tiny_train  # noqa: F401

extract_model_from_parallel(nn.Identity())  # imports DeepSpeed if it is installed, 0.4 s
