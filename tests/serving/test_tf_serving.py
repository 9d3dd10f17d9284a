"""The files with which TensorFlow Serving is run: each is parsed strictly, and they are consistent with each other.

Kubernetes' own kinds are checked against its published schemas, KServe's and kustomize's against their documented
fields, text files against their messages. The local server starts with exactly the flags of the Deployment.
"""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import tensorflow as tf
import trustme
import yaml
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving import tf_serving
from serving.call_errors import ServingError
from serving.client import StoryClient, Tls
from serving.config_protos import BatchingParameters, MonitoringConfig, SSLConfig, read_text
from serving.local_server.batching import BatchingOptions
from serving.local_server.server_options import parse_flags
from serving.story_io import DEFAULT_MODEL
from serving.tf_serving.tls import tls_config
from storygan_tf.common.errors import ConfigError

ROOT = Path(tf_serving.__file__).parent
KUSTOMIZE = ROOT / "kustomize"
CONFIG = KUSTOMIZE / "base" / "config"
KUBERNETES = "1.31"


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that is there twice, which YAML's own loader silently drops."""


def _mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f"a key is there twice: {keys}"
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load(path: Path) -> dict:
    (document,) = yaml.load_all(path.read_text(), StrictLoader)
    return document


def schema(required, **properties):
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required.split(),
        "properties": properties,
    }


TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT, "minItems": 1}
COUNT = {"type": "integer", "minimum": 0}
TEXT_MAP = {"type": "object", "additionalProperties": TEXT}


def items(schema_):
    return {"type": "array", "items": schema_, "minItems": 1}


SELECT = schema("kind name", kind=TEXT, name=TEXT, group=TEXT, version=TEXT, namespace=TEXT)

KUSTOMIZATION = schema(
    "apiVersion kind",
    apiVersion={"enum": ["kustomize.config.k8s.io/v1beta1", "kustomize.config.k8s.io/v1alpha1"]},
    kind={"enum": ["Kustomization", "Component"]},
    resources=TEXTS,
    components=TEXTS,
    configurations=TEXTS,
    labels=items(schema("pairs", pairs=TEXT_MAP, includeSelectors={"type": "boolean"})),
    configMapGenerator=items(
        schema(
            "name",
            name=TEXT,
            files=TEXTS,
            literals=TEXTS,
            options=schema("", disableNameSuffixHash={"type": "boolean"}),
        )
    ),
    replacements=items(
        schema(
            "source targets",
            source=schema("kind name fieldPath", kind=TEXT, name=TEXT, fieldPath=TEXT),
            targets=items(
                schema(
                    "select fieldPaths",
                    select=SELECT,
                    fieldPaths=TEXTS,
                    options=schema("", delimiter=TEXT, index=COUNT, create={"type": "boolean"}),
                )
            ),
        )
    ),
    patches=items(schema("patch", target=SELECT, patch=TEXT, path=TEXT)),
)

INFERENCE_SERVICE = schema(
    "apiVersion kind metadata spec",
    apiVersion={"const": "serving.kserve.io/v1beta1"},
    kind={"const": "InferenceService"},
    metadata=schema("name", name=TEXT, annotations=TEXT_MAP, labels=TEXT_MAP),
    spec=schema(
        "predictor",
        predictor={
            # The fields of KServe's PredictorSpec; those of a pod are checked as a pod's.
            "type": "object",
            "required": ["model"],
            "properties": {
                "minReplicas": COUNT,
                "maxReplicas": COUNT,
                "scaleMetric": {"enum": ["cpu", "memory", "concurrency", "rps"]},
                "scaleTarget": COUNT,
                "canaryTrafficPercent": COUNT,
                "model": {
                    "type": "object",
                    "required": ["modelFormat"],
                    "properties": {
                        "modelFormat": schema("name", name=TEXT, version=TEXT),
                        "runtime": TEXT,
                        "runtimeVersion": TEXT,
                        "protocolVersion": {"enum": ["v1", "v2", "grpc-v1", "grpc-v2"]},
                        "storageUri": {"type": "string", "pattern": "^pvc://[^/]+/.+"},
                    },
                },
            },
        },
    ),
)

KSERVE_PREDICTOR = ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "canaryTrafficPercent", "model")
KSERVE_MODEL = ("modelFormat", "runtime", "runtimeVersion", "protocolVersion", "storageUri")

COMPOSE_SERVICE = schema(
    "image command ports volumes user read_only",
    image=TEXT,
    entrypoint=TEXTS,
    command=TEXTS,
    ports=items({"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}),
    volumes=TEXTS,
    user=TEXT,
    read_only={"const": True},
    tmpfs=TEXTS,
    cap_drop=TEXTS,
    security_opt=TEXTS,
    stop_grace_period=TEXT,
    restart={"enum": ["no", "always", "on-failure", "unless-stopped"]},
    deploy=schema("resources", resources=schema("limits", limits=schema("cpus memory", cpus=TEXT, memory=TEXT))),
)

PATCH = items(schema("op path value", op={"const": "add"}, path=TEXT, value={}))

YAMLS = sorted(ROOT.rglob("*.yaml"))
KUSTOMIZATIONS = [path for path in YAMLS if path.name == "kustomization.yaml"]
KINDS = [path for path in YAMLS if "kind" in load(path) and path not in KUSTOMIZATIONS]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [path for path in KINDS if path.name != "inference_service.yaml"], ids=named)
def test_kubernetes_kinds_follow_its_schemas(path):
    kubernetes_validate.validate(load(path), KUBERNETES, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found():
    deployment = load(KUSTOMIZE / "overlays/deployment/deployment.yaml")
    deployment["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


def inference_service() -> dict:
    return load(KUSTOMIZE / "overlays/kserve/inference_service.yaml")


def test_the_inference_service_has_kserves_fields_and_those_of_a_pod():
    document = inference_service()
    jsonschema.validate(document, INFERENCE_SERVICE)
    predictor = document["spec"]["predictor"]
    container = {key: value for key, value in predictor["model"].items() if key not in KSERVE_MODEL}
    pod = {key: value for key, value in predictor.items() if key not in KSERVE_PREDICTOR}
    pod["containers"] = [{"name": "kserve-container"} | container]
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "storygan"}, "spec": pod}
    kubernetes_validate.validate(whole, KUBERNETES, strict=True)


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=named)
def test_kustomizations_know_their_fields_and_name_files_that_are_there(path):
    document = load(path)
    jsonschema.validate(document, KUSTOMIZATION)
    files = [file for entry in document.get("configMapGenerator", []) for file in entry.get("files", [])]
    for name in (*files, *document.get("resources", []), *document.get("configurations", [])):
        assert (path.parent / name).exists(), name
    for patch in document.get("patches", []):
        jsonschema.validate(yaml.load(patch["patch"], StrictLoader), PATCH)


def test_every_file_is_part_of_something():
    used = {path.parent / name for path in KUSTOMIZATIONS for name in load(path).get("resources", [])}
    assert set(KINDS) <= {path.resolve() for path in used}


def pods() -> dict[str, tuple[dict, dict]]:
    """Returns the pod and the container of each overlay."""
    pod = load(KUSTOMIZE / "overlays/deployment/deployment.yaml")["spec"]["template"]["spec"]
    predictor = inference_service()["spec"]["predictor"]
    return {"deployment": (pod, pod["containers"][0]), "kserve": (predictor, predictor["model"])}


@pytest.mark.parametrize("overlay", ["deployment", "kserve"])
def test_nothing_runs_as_root_or_writes_or_grows(overlay):
    pod, container = pods()[overlay]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    grace, pause = pod["terminationGracePeriodSeconds"], container["lifecycle"]["preStop"]["exec"]["command"]
    assert int(pause[1]) < grace


def test_selectors_ports_and_names_fit_together():
    overlay = KUSTOMIZE / "overlays/deployment"
    deployment = load(overlay / "deployment.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        load(overlay / "service.yaml")["spec"]["selector"],
        load(overlay / "disruption_budget.yaml")["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    ports = {port["name"]: port["containerPort"] for port in pods()["deployment"][1]["ports"]}
    assert {port["targetPort"]: port["port"] for port in load(overlay / "service.yaml")["spec"]["ports"]} == ports
    assert load(overlay / "autoscaler.yaml")["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"], "the autoscaler sets their number"


def test_the_image_tag_is_one_setting_and_the_release_of_the_export():
    (setting,) = (
        entry for entry in load(KUSTOMIZE / "base/kustomization.yaml")["configMapGenerator"] if "literals" in entry
    )
    assert setting["literals"] == [f"tag={tf.__version__}"]
    assert f"${{TF_SERVING_TAG:-{tf.__version__}}}" in (ROOT / "docker-compose.yaml").read_text()
    assert pods()["deployment"][1]["image"] == "tensorflow/serving:tag"
    assert pods()["kserve"][1]["runtimeVersion"] == "tag"


def test_text_files_hold_their_messages():
    models = read_text(CONFIG / "models.config", model_server_config_pb2.ModelServerConfig, "models.config")
    (model,) = models.model_config_list.config
    assert (model.name, dict(model.version_labels)) == (DEFAULT_MODEL, {"stable": 1, "canary": 2})
    assert set(model.version_labels.values()) == set(model.model_version_policy.specific.versions)
    batching = BatchingOptions.from_proto(read_text(CONFIG / "batching.config", BatchingParameters, "batching.config"))
    assert (batching.max_batch_size, batching.allowed_batch_sizes) == (32, ())
    monitoring = read_text(CONFIG / "monitoring.config", MonitoringConfig, "monitoring.config").prometheus_config
    template = load(KUSTOMIZE / "overlays/deployment/deployment.yaml")["spec"]["template"]
    assert (monitoring.enable, monitoring.path) == (True, template["metadata"]["annotations"]["prometheus.io/path"])


@pytest.mark.parametrize("message", [BatchingParameters, MonitoringConfig, SSLConfig])
def test_a_field_that_is_unknown_is_an_error(message, tmp_path):
    (tmp_path / "file").write_text("nonsense: 1")
    with pytest.raises(ConfigError, match=r"Error parsing text-format tensorflow\.serving"):
        read_text(tmp_path / "file", message, "--file")


def compose() -> dict:
    (service,) = load(ROOT / "docker-compose.yaml")["services"].values()
    return service


def test_compose_has_valid_fields_and_serves_as_the_deployment_does():
    jsonschema.validate(compose(), COMPOSE_SERVICE)
    assert compose()["command"] == pods()["deployment"][1]["args"]
    assert (ROOT / compose()["volumes"][0].split(":")[0]).resolve() == CONFIG
    for path in re.findall(r"/config/([\w.]+)", " ".join(compose()["command"])):
        assert (CONFIG / path).is_file()


def placed(text: str, config: Path, models: Path) -> str:
    return text.replace("/config/", f"{config}/").replace('"/models/', f'"{models}/')


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=120) as response:
            return response.status == 200
    except urllib.error.HTTPError as error:
        assert error.code == 404, error
        error.close()
        return False


def test_the_local_server_starts_with_the_flags_of_the_deployment(start_server, small_model, tmp_path):
    models, config = tmp_path / "models", tmp_path / "config"
    shutil.copytree(CONFIG, config)
    (models / "storygan").mkdir(parents=True)
    for version in ("1", "2"):
        (models / "storygan" / version).symlink_to(small_model, target_is_directory=True)
    file = config / "models.config"
    file.write_text(placed(file.read_text(), config, models))
    flags = parse_flags([placed(argument, config, models) for argument in pods()["deployment"][1]["args"]])
    del flags["port"], flags["rest_api_port"]
    probe = pods()["deployment"][1]["readinessProbe"]["httpGet"]["path"]
    with start_server(**flags) as server, server.predictions() as stub:
        # The newest version is loaded first; until the stable one is, the pod must get no requests.
        while not ready(server.url + probe):
            time.sleep(0.1)
        for label, version in (("stable", 1), ("canary", 2)):
            request = predict_pb2.PredictRequest(model_spec={"name": DEFAULT_MODEL, "version_label": label})
            request.inputs["x"].CopyFrom(tf.make_tensor_proto([2.0]))
            assert stub.Predict(request, 120).model_spec.version.value == version


@pytest.mark.parametrize("mutual", [False, True])
def test_tls_from_pem_files(start_server, small_model, tmp_path, mutual):
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    options = ["--client-ca", tmp_path / "ca.pem"] if mutual else []
    program = [sys.executable, "-W", "ignore", "-m", "serving.tf_serving.tls"]
    files = ["--key", tmp_path / "key.pem", "--cert", tmp_path / "cert.pem", "--out", tmp_path / "tls.config"]
    subprocess.run([*program, *files, *options], check=True, cwd=ROOT.parents[1])
    assert stat.S_IMODE((tmp_path / "tls.config").stat().st_mode) == 0o600
    own = {"certificate": tmp_path / "cert.pem", "key": tmp_path / "key.pem"} if mutual else {}
    trusted = Tls(ca=tmp_path / "ca.pem", **own)
    with (
        start_server(model_base_path=str(small_model.parent), ssl_config_file=str(tmp_path / "tls.config")) as server,
        StoryClient(server.target, model="half", tls=trusted, attempts=1, timeout=120) as client,
        pytest.raises(ServingError, match='FAILED_PRECONDITION: Serving signature key "info" not found'),
    ):
        client.info()


def test_files_that_are_no_pem(tmp_path):
    (tmp_path / "key").write_text("no key")
    with pytest.raises(ConfigError, match=r"--key .*: found no PRIVATE KEY"):
        tls_config(tmp_path / "key", tmp_path / "key")
    with pytest.raises(ConfigError, match=r"--key .*: cannot be read"):
        tls_config(tmp_path / "none", tmp_path / "key")
