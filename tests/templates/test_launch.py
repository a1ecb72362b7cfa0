"""The files under launch/: accelerate understands its configurations, and the Slurm script asks for what is left to do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from support.generated import rendered

from paccel.catalog.catalog import DEFAULT_TEMPLATE
from paccel.files.tree import write_tree

# What the script calls, for two tasks on this machine: the tasks are real, the cluster is not.
SRUN = """#!/usr/bin/env bash
[ "$1" = --kill-on-bad-exit=0 ] && shift
for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=$task "$@" & tasks+=($!); done
trap 'kill -USR1 "${tasks[@]}"' USR1
code=0
for task in "${tasks[@]}"; do
    wait "$task"; status=$?
    while kill -0 "$task" 2>/dev/null; do wait "$task"; status=$?; done
    [ "$status" -gt "$code" ] && code=$status
done
exit "$code"
"""
SCONTROL = """#!/usr/bin/env bash
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> requeued; fi
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_tree(tmp_path / "my-project", rendered(DEFAULT_TEMPLATE, {"launch": True, "slurm": True}))
    return tmp_path / "my-project"


def test_accelerate_reads_from_each_configuration_what_it_says(project: Path) -> None:
    environments = {}
    for name, prepare in (
        ("multi_gpu", prepare_multi_gpu_env),
        ("fsdp", prepare_multi_gpu_env),
        ("deepspeed", lambda args: prepare_deepspeed_cmd_env(args)[1]),
    ):
        arguments = ["--config_file", str(project / "launch" / f"{name}.yaml"), "train.py"]
        args, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(arguments))
        args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)  # as its launcher does
        assert args.num_processes == 8
        environments[name] = prepare(args)
    assert "ACCELERATE_USE_FSDP" not in environments["multi_gpu"]
    assert environments["fsdp"]["ACCELERATE_USE_FSDP"] == "true"
    assert environments["fsdp"]["FSDP_VERSION"] == "2"
    assert environments["deepspeed"]["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert environments["deepspeed"]["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == "2"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds a process in /proc")
def test_the_slurm_script_stops_on_the_signal_is_requeued_and_then_finishes(project: Path, tmp_path: Path) -> None:
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "this",
        "SLURM_NTASKS": "2",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    command = ["bash", "launch/slurm.sbatch", "--max-steps=40", "--eval-every=40", "--log-every=1"]
    run_dir = project / "runs" / f"slurm-{os.getpid()}"

    def submit() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=project, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    with submit() as job:
        log = run_dir / "metrics.jsonl"
        while not log.exists() or len(log.read_bytes().splitlines()) < 3:
            assert job.poll() is None, job.communicate()[0]
            time.sleep(0.05)
        children = Path(f"/proc/{job.pid}/task/{job.pid}/children")
        (srun,) = map(int, children.read_text().split())
        os.kill(srun, signal.SIGUSR1)  # which Slurm sends to every task
        out, _ = job.communicate(timeout=100)
    assert job.returncode == 75, out
    assert (project / "requeued").read_text() == f"requeue {os.getpid()}\n"
    with submit() as job:
        out, _ = job.communicate(timeout=100)
    assert job.returncode == 0, out
    assert "finished at step 40" in out
    assert (project / "requeued").read_text().count("\n") == 1
