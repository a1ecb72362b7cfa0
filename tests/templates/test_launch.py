"""The files under launch/: each is read by the tool that it is for, or, where that can run here, started by it."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from support.generated import rendered
from support.sampled import every_third_day
from support.schemas import load, problems
from support.slurm import HAS_SLURM, ask, slurm

from paccel.catalog.answers import resolve_answers
from paccel.catalog.catalog import DEFAULT_TEMPLATE, load_template
from paccel.catalog.migrate import carry_answers
from paccel.files.tree import write_tree
from paccel.render.render import render

pytestmark = pytest.mark.slow

ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED")  # states of a Slurm job
FILES = {
    "slurm": "slurm.sbatch",
    "kubernetes": "kubernetes.yaml",
    "kubeflow": "kubeflow.yaml",
    "ray": "ray_train.py",
    "skypilot": "skypilot.yaml",
    "modal": "modal_app.py",
}
# SkyPilot needs other versions of what paccel needs, so it may stand in an environment of its own
SKYPILOT = os.environ.get("PACCEL_SKYPILOT_PYTHON") or (sys.executable if find_spec("sky") else None)
READ_TASK = """
import json, sys, sky
task = sky.Task.from_yaml(sys.argv[1])
(resources,) = task.resources
found = [resources.use_spot, resources.accelerators, task.num_nodes, resources.job_recovery["recover_on_exit_codes"]]
print(json.dumps(found))
"""


def launch_file(name: str) -> str:
    return rendered(DEFAULT_TEMPLATE, {"cluster": name})[f"launch/{FILES[name]}"].content.decode()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_tree(tmp_path / "my-project", rendered(DEFAULT_TEMPLATE, {"launch": True, "cluster": ",".join(FILES)}))
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


@pytest.mark.parametrize("choice", FILES)
def test_each_choice_adds_its_file_and_no_other(choice: str) -> None:
    tree = rendered(DEFAULT_TEMPLATE, {"cluster": choice})
    assert {path for path in tree if path.startswith("launch/")} == {f"launch/{FILES[choice]}"}
    assert f"launch/{FILES[choice]}" in tree["README.md"].content.decode()


def test_the_slurm_script_of_a_project_of_an_earlier_release_stays(tmp_path: Path) -> None:
    template = load_template(DEFAULT_TEMPLATE)
    for stored, cluster in ((True, ["slurm"]), (False, ["none"])):
        answers, notes = carry_answers({"project_name": "net", "slurm": stored}, template, {})
        assert answers["cluster"] == cluster
        assert f"the answer `slurm={str(stored).lower()}` is now `cluster={cluster[0]}`" in notes
        assert ("launch/slurm.sbatch" in render(template, answers)) == stored


@pytest.mark.parametrize(
    ("name", "typo"),
    [
        (name, typo)
        for name in ("kubernetes", "kubeflow")
        for typo in (
            ("restartPolicy:", "restartPolcy:"),
            ("values: [75]", "value: [75]"),
            ("backoffLimit: 6", "backoffLimit: six"),
            ("podFailurePolicy:", "podFailPolicy:"),
            ("claimName:", "claim:"),
        )
    ]
    + [
        ("kubernetes", ("clusterIP: None", "clusterIp: None")),
        ("kubernetes", ("completionMode:", "completionsMode:")),
        ("kubeflow", ("numProcPerNode: 8", "numProcsPerNode: 8")),
        ("kubeflow", ("runtimeRef:", "runtimeref:")),
        ("kubeflow", ("torch: {}", "pytorch: {}")),
    ],
)
def test_kubernetes_accepts_the_objects_and_would_refuse_a_typo(name: str, typo: tuple[str, str]) -> None:
    text = launch_file(name)
    assert problems(text, load(name)) == []
    assert text.count(typo[0]) >= 1
    assert problems(text.replace(*typo, 1), load(name)) != []


@pytest.mark.parametrize("name", ["kubernetes", "kubeflow"])
def test_pods_that_have_saved_and_stopped_are_started_again_and_those_that_failed_are_not(name: str) -> None:
    *_, last = documents = [*yaml.safe_load_all(launch_file(name))]
    job = (
        last["spec"]
        if name == "kubernetes"
        else last["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]
    )
    pod = job["template"]["spec"]
    stopped, evicted, failed = job["podFailurePolicy"]["rules"]
    container = pod["containers"][0]["name"]
    for rule, action, code in ((stopped, "Ignore", 75), (failed, "FailJob", 1)):
        assert rule["action"] == action
        assert rule["onExitCodes"] == {"containerName": container, "operator": "In", "values": [code]}
    assert evicted == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert pod["restartPolicy"] == "Never"  # which a podFailurePolicy needs
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    names = {document["metadata"]["name"] for document in documents}
    assert names == {"my-project"}


@pytest.mark.parametrize("name", ["My_Project.v2", "a" * 60])
def test_kubernetes_takes_the_names_of_any_project(name: str) -> None:
    template = load_template(DEFAULT_TEMPLATE)
    tree = render(template, resolve_answers(template, {"cluster": "kubernetes,kubeflow"}, project_name=name))
    for file in ("kubernetes.yaml", "kubeflow.yaml"):
        for document in yaml.safe_load_all(tree[f"launch/{file}"].content):
            assert re.fullmatch("[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", document["metadata"]["name"])


@pytest.mark.parametrize(
    "typo", [("", ""), ("recover_on_exit_codes", "recover_on_exit_code"), ("use_spot", "spot"), ("num_nodes", "nodes")]
)
@pytest.mark.skipif(SKYPILOT is None, reason="needs an interpreter with SkyPilot: PACCEL_SKYPILOT_PYTHON")
def test_skypilot_reads_its_task_and_refuses_a_typo(typo: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(launch_file("skypilot").replace(*typo))
    done = subprocess.run(
        [str(SKYPILOT), "-c", READ_TASK, "task.yaml"],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path)},  # where it keeps its own files
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if any(typo):
        assert typo[1] in done.stderr
        assert done.returncode == 1
    else:
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [True, {"H100": 8}, 2, [75]]


@pytest.mark.parametrize("typo", [("", ""), ("single_use_containers", "single_use_container"), ("gpu=", "gpus=")])
def test_modal_imports_its_app_and_refuses_a_typo(project: Path, typo: tuple[str, str]) -> None:
    pytest.importorskip("modal")
    path = project / "launch" / "modal_app.py"
    path.write_text(path.read_text().replace(*typo))
    done = subprocess.run(
        [sys.executable, "-c", "import modal_app; print(modal_app.app.name, *modal_app.app.registered_functions)"],
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if any(typo):
        assert typo[1].rstrip("=") in done.stderr
        assert done.returncode != 0
    else:
        assert (done.stdout, done.returncode) == ("my-project train\n", 0), done.stderr


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is so short that sockets fit below it."""
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.mark.timeout(900)
@every_third_day(0)
def test_ray_trains_on_two_workers_and_continues_what_was_stopped(
    project: Path, tmp_path: Path, short_folder: Path
) -> None:
    pytest.importorskip("ray.train")
    path = project / "launch" / "ray_train.py"
    text = path.read_text()
    for ours, here in (
        ("/shared/runs/", f"{tmp_path}/runs/"),
        ("num_workers=8, use_gpu=True", "num_workers=2, use_gpu=False"),
    ):
        assert ours in text
        text = text.replace(ours, here)
    path.write_text(text)
    run_dir = tmp_path / "runs" / "my-project"
    for steps in (20, 30):
        done = subprocess.run(
            [sys.executable, "launch/ray_train.py", f"--max-steps={steps}", "--eval-every=10", "--log-every=1"],
            cwd=project,
            env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "RAY_TMPDIR": str(short_folder)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads((run_dir / "status.json").read_text())["state"] == "finished"
    assert json.loads((run_dir / "config.json").read_text())["num_processes"] == 2
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == [*range(1, 31)]


@pytest.mark.parametrize("name", FILES)
def test_every_launcher_with_exit_codes_is_supervised(name: str) -> None:
    text = launch_file(name)
    assert ("paccel.runtime.supervise" in text) == (name != "ray")  # whose workers are threads of its own processes
    assert ("--max-restarts=3" in text) == (name != "ray")


@pytest.mark.skipif(not HAS_SLURM, reason="needs Slurm: apt-get install slurm-wlm")
def test_a_slurm_job_stops_on_the_signal_is_requeued_and_resumes_until_it_is_finished(
    project: Path, tmp_path: Path
) -> None:
    script = (project / "launch" / "slurm.sbatch").read_text()
    for ours, here in (("--nodes=2", "--nodes=1"), ("-node=8", "-node=2"), ("--cpus-per-task=64", "--cpus-per-task=1")):
        assert ours in script
        script = script.replace(ours, here)
    (project / "launch" / "slurm.sbatch").write_text(script)
    (tmp_path / "bin").mkdir()
    for name, module in (("python", ""), ("torchrun", "-m torch.distributed.run")):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    with slurm(tmp_path / "slurm") as environment:
        environment |= {
            "PATH": f"{tmp_path / 'bin'}:{environment['PATH']}",
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
        }
        command = ["sbatch", "--parsable", f"--chdir={project}", "launch/slurm.sbatch"]
        job = ask(environment, *command, "--max-steps=150", "--eval-every=150", "--log-every=1", cwd=project).strip()
        run_dir, log = project / "runs" / f"slurm-{job}", project / f"slurm-{job}.log"

        def await_job(is_so: Callable[[dict[str, str]], bool]) -> dict[str, str]:
            deadline = time.monotonic() + 240
            while True:
                shown = ask(environment, "scontrol", "show", "job", job).split()
                state = dict(part.partition("=")[::2] for part in shown)
                if is_so(state):
                    return state
                is_over = state["JobState"] in ENDED or time.monotonic() > deadline
                assert not is_over, f"{shown}\n{log.read_text() if log.exists() else 'it never started'}"
                time.sleep(0.1)

        def steps() -> int:
            metrics = run_dir / "metrics.jsonl"
            return len(metrics.read_bytes().splitlines()) if metrics.exists() else 0

        await_job(lambda state: state["JobState"] == "RUNNING" and steps() > 3)
        ask(environment, "scancel", "--signal=USR1", job)
        await_job(lambda state: state["Restarts"] == "1")
        status = json.loads((run_dir / "status.json").read_text())
        assert (status["state"], status["reason"]) == ("stopped", "SIGUSR1")
        await_job(lambda state: state["JobState"] == "RUNNING")
        while ".0" not in ask(environment, "squeue", "--steps", "-h", "-o", "%i"):
            time.sleep(0.05)
        ask(environment, "scancel", "--signal=USR1", job)  # while Python starts
        await_job(lambda state: state["Restarts"] == "2")
        assert json.loads((run_dir / "status.json").read_text()) == status
        ended = await_job(lambda state: state["JobState"] in ENDED)
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "2"), log.read_text()
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == [*range(1, 151)]
