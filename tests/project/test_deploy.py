"""deploy/ without a container engine: what it names exists, its commands are ours, its scripts run."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from lldiffusion.cli import load_verb
from lldiffusion.scale.service.metrics import Metrics
from lldiffusion.scale.service.openapi import describe
from lldiffusion.scale.service.options import TOKEN, ServiceOptions
from support.serving import Gate, serving

IMAGES = ("Dockerfile", "Dockerfile.cuda")
STOPPING = 10  # seconds that an orchestrator shall wait longer than the service may drain


def steps(root: Path, image: str) -> list[tuple[str, str]]:
    """(instruction, the rest) of a Dockerfile; none of ours goes over several lines."""
    lines = (root / "deploy" / image).read_text().splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in lines if line and not line.startswith("#")]


def documents(root: Path) -> dict[str, Any]:
    """Kubernetes' objects by kind."""
    return {
        document["kind"]: document for document in yaml.safe_load_all((root / "deploy/kubernetes.yaml").read_text())
    }


def options_of(arguments: list[str]) -> dict[str, Any]:
    """A command line as our own parser reads it."""
    with load_verb(arguments[0]).make_context(arguments[0], arguments[1:]) as context:
        parameters: dict[str, Any] = context.params
        return parameters


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_copies_what_exists_and_runs_as_nobody(root: Path, image: str) -> None:
    found = steps(root, image)
    for instruction, rest in found:
        if instruction == "COPY" and "--from" not in rest:
            assert (root / shlex.split(rest)[0]).exists(), rest
        if instruction == "RUN" and (program := json.loads(rest)[0]).startswith("deploy/"):
            assert os.access(root / program, os.X_OK), rest
    last = dict(found)  # of each instruction
    assert last["USER"].split(":")[0].isdigit() and int(last["USER"].split(":")[0]) > 0
    assert options_of(json.loads(last["CMD"]))["host"] == "0.0.0.0"
    assert json.loads(last["ENTRYPOINT"]) == ["lldiff"] and last["EXPOSE"] == str(ServiceOptions().port)
    assert "healthcheck.sh" in last["HEALTHCHECK"]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_asks_for_extras_that_there_are(root: Path, image: str) -> None:
    import tomllib

    known = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (extras,) = [json.loads(rest)[2] for instruction, rest in steps(root, image) if "install.sh" in rest]
    assert set(extras.split(",")) <= set(known) and "serve" in extras


def test_compose_is_closed_and_waits_for_the_drain(root: Path) -> None:
    (service,) = yaml.safe_load((root / "deploy/compose.yaml").read_text())["services"].values()
    given = options_of(service["command"])
    assert int(service["stop_grace_period"].removesuffix("s")) >= given["drain"] + STOPPING
    assert (root / "deploy" / service["build"]["context"] / service["build"]["dockerfile"]).resolve().is_file()
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert TOKEN in service["environment"] and service["ports"] == [f"127.0.0.1:8000:{given['port']}"]


def test_kubernetes_asks_for_what_the_service_has(root: Path) -> None:
    found = documents(root)
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = options_of(container["args"])
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= given["drain"] + pause + STOPPING
    paths = describe(["tiny"], ServiceOptions())["paths"]
    probes = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")]
    assert {*probes, pod_annotation(found, "path")} <= set(paths)
    assert container["ports"][0]["containerPort"] == given["port"] == int(pod_annotation(found, "port"))
    assert container["securityContext"]["readOnlyRootFilesystem"] is True and pod["securityContext"]["runAsNonRoot"]
    assert {"requests", "limits"} == set(container["resources"])
    assert TOKEN in [variable["name"] for variable in container["env"]]


def pod_annotation(found: dict[str, Any], name: str) -> str:
    annotations: dict[str, str] = found["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    return annotations[f"prometheus.io/{name}"]


def test_the_autoscaler_looks_at_a_number_that_there_is(root: Path) -> None:
    (metric,) = documents(root)["HorizontalPodAutoscaler"]["spec"]["metrics"]
    with serving(Gate()) as served:
        assert isinstance(served.service.metrics, Metrics)
        text = served.ask("GET", "/metrics").body.decode()
    assert f"\n{metric['pods']['metric']['name']} " in text


def test_every_index_of_the_job_has_its_part(root: Path) -> None:
    spec = documents(root)["Job"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    given = options_of([argument.replace("$(JOB_COMPLETION_INDEX)", "7") for argument in container["args"]])
    assert given["shard"] == f"7/{spec['completions']}" and given["skip_existing"] is True
    assert spec["completionMode"] == "Indexed"


def test_kubernetes_objects_fit_their_schema(root: Path) -> None:
    validator = pytest.importorskip(
        "kubernetes_validate", reason="needs kubernetes-validate, which has 108 MB of schemas"
    )
    for document in documents(root).values():
        validator.validate(document, "1.31", strict=True)


def test_the_health_check_tells_the_living_from_the_dead(root: Path) -> None:
    with serving(Gate()) as served:
        alive = subprocess.run([root / "deploy/healthcheck.sh", str(served.port)], capture_output=True)
    dead = subprocess.run([root / "deploy/healthcheck.sh", str(served.port)], capture_output=True)
    assert (alive.returncode, dead.returncode) == (0, 1), alive.stderr


@pytest.mark.slow
def test_the_images_steps_in_a_clean_environment(root: Path, tmp_path: Path) -> None:
    """What the Dockerfile runs, run here; then its command, with no home but a temporary folder."""
    (arguments,) = [json.loads(rest) for kind, rest in steps(root, "Dockerfile") if kind == "RUN"]
    home, temporary = tmp_path / "lldiff", tmp_path / "tmp"
    temporary.mkdir()
    clean = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(temporary), "TMPDIR": str(temporary)}
    subprocess.run([root / arguments[0], home, arguments[2]], env=clean, check=True)
    command = [home / "bin/lldiff", *json.loads(dict(steps(root, "Dockerfile"))["CMD"]), "--port", "0"]
    clean |= {"PATH": f"{home / 'bin'}:/usr/bin:/bin", TOKEN: "secret", "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(command, env=clean, cwd="/", stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        port = started.stderr.readline().strip().rpartition(":")[2]
        try:
            subprocess.run([root / "deploy/healthcheck.sh", port], env=clean, check=True)
            asking = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": "Bearer secret"}
            )
            assert json.load(urllib.request.urlopen(asking))["default"] == "tiny"
        finally:
            started.terminate()
        assert started.wait(60) == 0
