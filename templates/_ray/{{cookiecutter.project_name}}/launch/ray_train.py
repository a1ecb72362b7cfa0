"""Train on a Ray cluster: `python launch/ray_train.py --epochs 100`, from the project folder."""

import sys

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

RUN_DIR = "/shared/runs/{{ cookiecutter.project_name }}"  # on a disk that all nodes share
SCALING = ScalingConfig(num_workers=8, use_gpu=True)


def train(settings: dict[str, list[str]]) -> None:
    import train as project  # on the worker, from the project folder

    project.main(project.load_config(project.Config, settings["arguments"]))


if __name__ == "__main__":
    ray.init(runtime_env={"working_dir": ".", "excludes": ["/runs/", "/data/", ".git", ".venv"]})
    TorchTrainer(
        train,
        train_loop_config={"arguments": [f"--run-dir={RUN_DIR}", "--resume=auto", *sys.argv[1:]]},
        scaling_config=SCALING,
        run_config=RunConfig(failure_config=FailureConfig(max_failures=3)),  # a lost worker: all start again and resume
    ).fit()
