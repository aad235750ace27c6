"""Check the files for AWS and Kubernetes without either."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pbrlib.curriculum.config.load import load_runtime
from ray_jobs.cluster.session import ENVIRONMENT

ROOT = Path(__file__).parents[2]
RAY = "2.60.0"
MANIFESTS = ("raycluster", "rayjob")


@pytest.fixture
def aws() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return loaded


def prepared(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration that ``ray up`` derives before it contacts AWS; private in Ray."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    whole: dict[str, Any] = prepare_config(copy.deepcopy(dict(config)))
    validate_config(whole)
    return whole


def manifest(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = next(yaml.safe_load_all((ROOT / f"configs/kuberay/{name}.yaml").read_text()))
    return loaded


def cluster(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = manifest(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "kuberay.schema.yaml").read_text())
    return loaded


def workers(config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, node in config["available_node_types"].items():
        if name != config["head_node_type"]:
            yield name, node


def test_ray_up_takes_the_cluster_file(aws: dict[str, Any]) -> None:
    whole = prepared(aws)
    assert set(whole["available_node_types"]) == set(aws["available_node_types"])


@pytest.mark.parametrize("spoil", ["idle_timeout", "labels", "counts"])
def test_ray_up_would_refuse_a_cluster_file_with_a_slip(aws: dict[str, Any], spoil: str) -> None:
    types = aws["available_node_types"]
    match spoil:
        case "idle_timeout":
            aws["idle_timeout_minute"] = 10
        case "labels":
            types["gpu4_spot"]["label"] = {}
        case "counts":
            types["gpu4_spot"]["min_workers"] = 99
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        prepared(aws)


def test_nothing_of_the_default_cluster_slips_in(aws: dict[str, Any]) -> None:
    """Ray's defaults for AWS install a nightly Ray and open the dashboard to the network."""
    whole = prepared(aws)
    for commands in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert whole[commands] == []
    starts = whole["head_start_ray_commands"] + whole["worker_start_ray_commands"]
    assert not any("0.0.0.0" in command or "pip" in command for command in starts)


def test_the_head_trains_nothing_and_every_type_has_a_limit_and_labels(aws: dict[str, Any]) -> None:
    head = aws["available_node_types"]["head"]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    for name, node in workers(aws):
        assert node["min_workers"] == 0 < node["max_workers"] <= aws["max_workers"], name
        spot = "InstanceMarketOptions" in node["node_config"]
        assert node["labels"]["market"] == ("spot" if spot else "on-demand"), name
        assert node.get("priority", 0) == int(spot), name
    markets = {node["labels"]["market"] for _, node in workers(aws) if node["resources"]["GPU"]}
    assert markets == {"spot", "on-demand"}
    assert 0 < aws["idle_timeout_minutes"] <= 30 and aws["provider"]["cache_stopped_nodes"] is False


def test_every_node_type_is_closed_encrypted_and_without_keys(aws: dict[str, Any]) -> None:
    for name, node in aws["available_node_types"].items():
        config = node["node_config"]
        assert config["IamInstanceProfile"] and config["SecurityGroupIds"] and config["ImageId"], name
        assert config["MetadataOptions"]["HttpTokens"] == "required", name
        assert all(disk["Ebs"]["Encrypted"] for disk in config["BlockDeviceMappings"]), name
        size = config["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"]
        assert size >= (500 if node["resources"]["GPU"] else 200), name
    text = (ROOT / "cluster.yaml").read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|aws_secret|ssh_private_key", text)
    starts = [aws["head_start_ray_commands"][-1], aws["worker_start_ray_commands"][-1]]
    for command in starts:
        assert "RAY_AUTH_MODE=token" in command
        assert "--metrics-export-port=8080" in command and "--object-spilling-directory=" in command
    assert "--dashboard-host=127.0.0.1" in starts[0] and "RAY_JOB_STOP_WAIT_TIME_S=" in starts[0]
    assert "/home/ray/.ray/auth_token" in aws["file_mounts"]


def test_every_node_keeps_idle_processes_as_long_as_a_local_cluster() -> None:
    name = "RAY_idle_worker_killing_time_threshold_ms"
    written = {"cluster.yaml": f"{name}={ENVIRONMENT[name]};"}
    written |= {
        f"configs/kuberay/{one}.yaml": f'{{name: {name}, value: "{ENVIRONMENT[name]}"}}' for one in MANIFESTS
    }
    for file, setting in written.items():
        assert (ROOT / file).read_text().count(setting) == 2, f"{file}: head and workers"


def test_one_ray_is_meant_everywhere(aws: dict[str, Any]) -> None:
    assert f'"ray[data,default,train,tune]=={RAY}"' in (ROOT / "pyproject.toml").read_text()
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"FROM rayproject/ray:{RAY}-py311-gpu\n" in dockerfile
    assert "--require-hashes -r /home/ray/pbr/constraints.txt" in dockerfile and "--compile" in dockerfile
    tag = aws["docker"]["image"].rpartition(":")[2]
    assert tag.endswith(f"-ray{RAY}")
    for name in MANIFESTS:
        text = (ROOT / f"configs/kuberay/{name}.yaml").read_text()
        assert {found.rpartition(":")[2] for found in re.findall(r"^ +image: (\S+)", text, re.M)} == {tag}
        assert str(cluster(name)["rayVersion"]) == RAY


@pytest.mark.parametrize("runtime", ["one_gpu", "four_gpu", "eight_gpu"])
def test_some_node_type_holds_a_whole_runtime_with_its_data(aws: dict[str, Any], runtime: str) -> None:
    needed = load_runtime(ROOT / f"configs/runtime/{runtime}.yaml")
    assert any(
        node["resources"]["GPU"] >= needed.workers and node["resources"]["CPU"] >= needed.logical_cpus
        for _, node in workers(aws)
    )


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_keeps_the_rules_of_its_definition(name: str) -> None:
    jsonschema.validate(manifest(name), schema())


@pytest.mark.parametrize("name", MANIFESTS)
def test_rays_own_autoscaler_reads_a_manifest(name: str) -> None:
    """Parse a manifest with the function that reads a live resource; it checks counts, sizes and labels."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    config = _derive_autoscaling_config_from_ray_cr(
        {"metadata": {"name": "pbr", "namespace": "pbr"}, "spec": cluster(name)}
    )
    types = config["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert types["gpu4-spot"]["resources"]["GPU"] == 4
    assert types["gpu4-spot"]["labels"] == {"market": "spot", "accelerator": "l40s"}
    assert all(node["max_workers"] >= node["min_workers"] == 0 for node in types.values())


@pytest.mark.parametrize(
    "address",
    [
        "spec.authOptions.mode=tokens",
        "spec.headGroupSpec.rayStartParams.num-cpus=0",
        "spec.autoscalerOptions.upscalingMode=Careful",
        "spec.headGroupSpec.tempalte={}",
        "spec.workerGroupSpecs.0.groupName=",
        "spec.headGroupSpec.template.spec.containers.0.resources.limits.memory=32 GB",
        "kind=RayClusters",
    ],
)
def test_the_rules_find_a_slip_in_a_manifest(address: str) -> None:
    spoiled = manifest("raycluster")
    path, _, value = address.partition("=")
    *way, last = path.split(".")
    place: Any = spoiled
    for step in way:
        place = place[int(step)] if step.isdigit() else place[step]
    place[last] = {"0": 0, "": None, "{}": {}}.get(value, value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spoiled, schema())


@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_follows_the_decisions_of_the_cluster_file(name: str, aws: dict[str, Any]) -> None:
    spec = cluster(name)
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert spec["autoscalerOptions"]["idleTimeoutSeconds"] == 60 * aws["idle_timeout_minutes"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        params, pod = group["rayStartParams"], group["template"]["spec"]
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert set(mounts) == set(volumes)
        assert params["object-spilling-directory"].startswith(f"{mounts['spill']}/")
        shm = int(volumes["shm"]["emptyDir"]["sizeLimit"].removesuffix("Gi")) * 2**30
        assert int(params["object-store-memory"]) < shm and mounts["shm"] == "/dev/shm"
        assert params["metrics-export-port"] == "8080"
        assert pod["restartPolicy"] == "Never"


def test_both_manifests_describe_one_head() -> None:
    assert cluster("raycluster")["headGroupSpec"] == cluster("rayjob")["headGroupSpec"]


def test_the_policy_lets_in_the_own_pods_and_the_operator_only() -> None:
    _, policy = yaml.safe_load_all((ROOT / "configs/kuberay/raycluster.yaml").read_text())
    own = {"matchLabels": {"app.kubernetes.io/part-of": "pbr"}}
    assert policy["spec"]["podSelector"] == own and policy["spec"]["policyTypes"] == ["Ingress"]
    pods, operator = policy["spec"]["ingress"]
    assert pods["from"] == [{"podSelector": own}]
    assert [port["port"] for port in operator["ports"]] == [8265]
