"""A Slurm of one node with two fake GPUs, run as child processes of the test in one folder."""

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HAS_SLURM = all(
    shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("sbatch", "slurmd", "slurmctld")
)

# A requeued job waits until the credential of its last start has expired: two minutes by default.
CONFIG = """
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0
GresTypes=gpu
KillWait=5
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={spool}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName=localhost CPUs={cpus} Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Run Slurm during the block; yields the environment in which `sbatch` and the other commands find it."""
    folder.mkdir()
    (folder / "state").mkdir()
    spool = tempfile.mkdtemp(prefix="spool-")  # near the root: its sockets have paths of at most 108 bytes
    values = {"spool": spool, "user": getpass.getuser(), "folder": folder, "cpus": os.cpu_count()}
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(**values, controller=free_port(), node=free_port()))
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
    environment = os.environ | {"SLURM_CONF": str(config), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    started = []
    try:
        for command in (["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", "localhost"]):
            with (folder / f"{command[0]}.out").open("w") as output:
                started.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
        deadline = time.monotonic() + 60
        while "idle" not in ask(environment, "sinfo", "-h", "-o", "%T", check=False):
            logs = "".join(path.read_text() for path in folder.glob("*.log"))
            assert time.monotonic() < deadline, logs + "".join(path.read_text() for path in folder.glob("*.out"))
            time.sleep(0.2)
        yield environment
    finally:
        ask(environment, "scancel", "-f", "--state=RUNNING,PENDING", f"--user={values['user']}", check=False)
        time.sleep(1)
        for process in started[::-1]:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(spool, ignore_errors=True)


def ask(environment: dict[str, str], *command: str, check: bool = True, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout
