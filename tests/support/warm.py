"""What each run would import for itself again; tests fork their processes from one that has imported this."""

import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401  what curves are drawn with
import pytest  # noqa: F401  what projects test themselves with
import sklearn.datasets  # noqa: F401  what most projects read their data from
import torch._dynamo  # noqa: F401  imported when an optimizer is made
import torchvision  # noqa: F401
from accelerate.utils.other import extract_model_from_parallel
from torch import nn

from support import tiny_train  # noqa: F401

extract_model_from_parallel(nn.Identity())  # imports DeepSpeed where it is installed, 0.4 s
