"""Train on Modal: `modal run --detach launch/modal_app.py --arguments "--epochs 100"`, from the project folder."""

import shlex
import subprocess

import modal

# % set name = cookiecutter.project_name | lower | replace("_", "-") | replace(".", "-") | truncate(40, true, "", 0) | trim("-")
GPUS, TIMEOUT = 8, 24 * 3600  # seconds, at most what Modal allows
SUPERVISED = ["python", "-m", "paccel.runtime.supervise", "--", "torchrun", f"--nproc-per-node={GPUS}", "--max-restarts=3"]

app = modal.App("{{ name }}")
image = (
    modal.Image.debian_slim(python_version="3.12")
    .pip_install_from_pyproject("pyproject.toml")
    .add_local_dir(".", "/project", ignore=[".git", ".venv", "runs", "data"])
)
runs = modal.Volume.from_name("{{ name }}-runs", create_if_missing=True)


@app.function(
    image=image,
    gpu=f"H100:{GPUS}",
    volumes={"/runs": runs},
    timeout=TIMEOUT,
    retries=modal.Retries(max_retries=10, initial_delay=1.0),
    single_use_containers=True,
)
def train(arguments: str = "") -> int:
    command = [*SUPERVISED, "train.py", "--run-dir=/runs/{{ name }}", "--resume=auto", f"--time-limit={TIMEOUT - 600}"]
    code = subprocess.run([*command, *shlex.split(arguments)], cwd="/project", check=False).returncode
    if code > 1:
        raise RuntimeError(f"not finished (exit code {code}): Modal starts it again")
    return code


@app.local_entrypoint()
def main(arguments: str = "") -> None:
    raise SystemExit(train.remote(arguments))
