"""The chart as Helm renders it, against Kubernetes' own schemas and what the gateway is."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from app.settings import Settings
from app.telemetry import Metrics
from tests.deploy.tools import DEPLOY, ROOT, run

pytestmark = pytest.mark.e2e

CHART = DEPLOY / "helm" / "sluice"
RULES = """\
groups:
  - name: feed
    rules:
      - {alert: Down, expr: "up == 0", annotations: {summary: "{{ $labels.instance }}"}}
"""
LABELS = {"release": "prometheus", "app.kubernetes.io/component": "quotes"}
ALL: dict[str, Any] = {
    "role": "serve",
    "apiKeysSecret": "sluice-keys",
    "settings": {
        "SLUICE_HISTORY": "1000000",
        "SLUICE_ANONYMOUS": "none",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
    },
    "allowedHosts": ["quotes.example.org"],
    "trustedProxies": ["10.1.0.0/16", "10.2.0.7"],
    "ingress": {
        "enabled": True,
        "host": "stream.example.org",
        "tlsSecret": "stream-tls",
        "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt"},
    },
    "autoscaling": {"enabled": True},
    "networkPolicy": {
        "redisPorts": [6379, 26379],
        "redis": [{"podSelector": {"matchLabels": {"app": "redis"}}}],
        "extraEgress": [{"ports": [{"port": 8443}]}],
    },
    "serviceMonitor": {
        "enabled": True,
        "labels": LABELS,
        "tokenSecret": "sluice-metrics",
    },
    "prometheusRules": RULES,
    "imagePullSecrets": [{"name": "pull"}],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"operator": "Exists"}],
    "podAnnotations": {"a": "b"},
}
"""Every value that the default ones leave out."""

Documents = dict[str, Any]
"""What was rendered, by kind; there is one of each."""


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chart")


def template(folder: Path, values: dict[str, Any], *, status: int = 0) -> str:
    path = folder / "values.yaml"
    path.write_text(json.dumps(values))
    words = ["template", "quotes", CHART, "--namespace", "market", "--values", path]
    return run("helm", *words, status=status)


@pytest.fixture(name="plain", scope="module")
def _plain(folder: Path) -> Documents:
    return _read(folder, {})


@pytest.fixture(name="full", scope="module")
def _full(folder: Path) -> Documents:
    return _read(folder, ALL)


def _read(folder: Path, values: dict[str, Any]) -> Documents:
    found = list(yaml.safe_load_all(template(folder, values)))
    documents = {document["kind"]: document for document in found}
    assert len(documents) == len(found)
    return documents


def pod(documents: Documents) -> Any:
    return documents["Deployment"]["spec"]["template"]["spec"]


def variables(documents: Documents) -> dict[str, Any]:
    """What the gateway's environment names, and the value where one is given."""
    found = pod(documents)["containers"][0]["env"]
    assert len({one["name"] for one in found}) == len(found)
    return {one["name"]: one.get("value") for one in found}


def every(text: str, document: Any) -> Iterator[Any]:
    """All that stands under a key, anywhere."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key == text:
                yield value
            yield from every(text, value)
    elif isinstance(document, list):
        for one in document:
            yield from every(text, one)


@pytest.mark.parametrize("values", [{}, ALL], ids=["plain", "full"])
def test_helm_and_kubernetes_find_nothing_wrong(folder: Path, values: dict[str, Any]) -> None:
    rendered = folder / "rendered.yaml"
    documents = list(yaml.safe_load_all(template(folder, values)))
    run("helm", "lint", "--strict", CHART, "--values", folder / "values.yaml")
    known = [one for one in documents if "monitoring.coreos.com" not in one["apiVersion"]]
    rendered.write_text(yaml.safe_dump_all(known))
    assert run("kubernetes-validate", "--strict", rendered).count(" passed for ") == len(known)


def test_what_is_rendered(plain: Documents, full: Documents) -> None:
    always = {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    assert set(plain) == always
    optional = {"Ingress", "HorizontalPodAutoscaler", "ServiceMonitor", "PrometheusRule"}
    assert set(full) == always | optional
    assert {one["metadata"]["name"] for one in full.values()} == {"quotes"}


def test_everything_finds_the_pods(full: Documents) -> None:
    labels = full["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert full["Service"]["spec"]["selector"] == labels
    selectors = list(every("matchLabels", [full["Deployment"], full["PodDisruptionBudget"]]))
    selectors += every("podSelector", full["NetworkPolicy"]["spec"]["podSelector"])
    assert selectors
    assert all(one == labels for one in selectors)
    assert full["NetworkPolicy"]["spec"]["podSelector"] == {"matchLabels": labels}
    target = full["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "quotes")
    assert "replicas" not in full["Deployment"]["spec"]


def test_the_probes(plain: Documents) -> None:
    (container,) = pod(plain)["containers"]
    paths = {
        name: container[f"{name}Probe"]["httpGet"]["path"]
        for name in ("startup", "liveness", "readiness")
    }
    assert paths == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": "/readyz?for=traffic",
    }


@pytest.mark.parametrize(("delay", "drain"), [(10, 10), (1, 0), (30, 600)])
def test_a_pod_is_given_the_time_that_its_end_takes(folder: Path, delay: int, drain: int) -> None:
    documents = _read(folder, {"endpointDelay": delay, "drain": drain})
    slept = pod(documents)["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert slept == delay
    assert variables(documents)["SLUICE_DRAIN"] == str(drain)
    assert pod(documents)["terminationGracePeriodSeconds"] >= delay + drain + 5


def test_the_container_may_do_little(plain: Documents) -> None:
    whole, (container,) = pod(plain), pod(plain)["containers"]
    assert whole["automountServiceAccountToken"] is False
    assert whole["securityContext"]["runAsNonRoot"] is True
    assert whole["securityContext"]["runAsUser"] == 10001
    assert whole["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_an_ingress_lets_streams_flow(full: Documents) -> None:
    annotations = full["Ingress"]["metadata"]["annotations"]
    nginx = "nginx.ingress.kubernetes.io/proxy-"
    assert annotations[f"{nginx}buffering"] == "off"
    for direction in ("read", "send"):
        seconds = float(annotations[f"{nginx}{direction}-timeout"])
        assert seconds >= Settings.model_fields["stream_lifetime"].default
    assert annotations["cert-manager.io/cluster-issuer"] == "letsencrypt"
    hosts = variables(full)["SLUICE_ALLOWED_HOSTS"].split(",")
    assert {"stream.example.org", "quotes.example.org", "quotes.market.svc"} <= set(hosts)
    assert variables(full)["SLUICE_FORWARDED_ALLOW_IPS"] == "10.1.0.0/16,10.2.0.7"


def test_an_ingress_leads_to_everything_but_metrics(full: Documents) -> None:
    (rule,) = full["Ingress"]["spec"]["rules"]
    assert {one["pathType"] for one in rule["http"]["paths"]} == {"Prefix"}
    prefixes = [one["path"] for one in rule["http"]["paths"]]
    document = json.loads((ROOT / "openapi.json").read_text())
    served = {*document["paths"], "/docs", "/docs/assets", "/openapi.json"}
    led = {path for path in served for one in prefixes if f"{path}/".startswith(f"{one}/")}
    assert led == served - {"/metrics"}


def test_an_ingress_wants_to_know_its_host_and_whom_to_believe(folder: Path) -> None:
    ingress = {"enabled": True, "host": "stream.example.org"}
    assert "trustedProxies:" in template(folder, {"ingress": ingress}, status=1)
    ingress["host"] = ""
    values = {"ingress": ingress, "trustedProxies": ["10.1.0.0/16"]}
    assert "ingress.host:" in template(folder, values, status=1)


def test_an_ingress_has_the_operators_annotation_where_it_is_the_charts_too(folder: Path) -> None:
    name = "nginx.ingress.kubernetes.io/proxy-read-timeout"
    ingress = ALL["ingress"] | {"annotations": {name: "7200"}}
    rendered = template(folder, ALL | {"ingress": ingress})
    assert rendered.count(f"{name}:") == 1
    assert f'{name}: "7200"' in rendered


def test_what_only_feeds_takes_no_ingress(folder: Path) -> None:
    assert "ingress.enabled:" in template(folder, ALL | {"role": "feed"}, status=1)


def test_secrets_come_by_reference_alone(folder: Path, full: Documents) -> None:
    secret = {
        f"SLUICE_{name.upper()}"
        for name, field in Settings.model_fields.items()
        if SecretStr in (field.annotation, *getattr(field.annotation, "__args__", ()))
    }
    assert len(secret) >= 4
    given = variables(full)
    assert secret & set(given) == {"SLUICE_BROKER_URL"}
    assert given["SLUICE_BROKER_URL"] is None
    assert list(every("secretRef", full)) == [{"name": "sluice"}]
    for name in secret | {"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"}:
        said = template(folder, {"settings": {name: "x"}}, status=1)
        assert name in said
        assert "'not' failed" in said


def test_a_setting_of_the_charts_own_is_not_given_twice(folder: Path, full: Documents) -> None:
    for name in set(variables(full)) - set(ALL["settings"]):
        template(folder, {"settings": {name: "x"}}, status=1)
    template(folder, {"settings": {"SLUICE_HISTORY": 1000000}}, status=1)  # would become 1e+06
    template(folder, {"misspelt": True}, status=1)


def test_traces_are_set_by_their_own_variables(folder: Path, full: Documents) -> None:
    assert variables(full)["OTEL_TRACES_SAMPLER_ARG"] == "0.01"
    template(folder, {"settings": {"PATH": "x"}}, status=1)


def test_the_network_policy(full: Documents) -> None:
    spec = full["NetworkPolicy"]["spec"]
    (incoming,) = spec["ingress"]
    assert incoming["ports"] == [{"port": "http"}]
    assert len(incoming["from"]) == 2
    names, redis, outside, more = spec["egress"]
    assert {one["port"] for one in names["ports"]} == {53}
    assert redis["ports"] == [{"port": 6379}, {"port": 26379}]
    assert redis["to"] == ALL["networkPolicy"]["redis"]
    assert outside["ports"] == [{"port": 443}]
    assert "169.254.0.0/16" in outside["to"][0]["ipBlock"]["except"]
    assert more["ports"] == [{"port": 8443}]


def test_rules_are_taken_from_a_file_as_they_are(folder: Path, full: Documents) -> None:
    assert full["PrometheusRule"]["spec"] == yaml.safe_load(RULES)
    path = folder / "rules.yaml"
    path.write_text(RULES)
    said = run("helm", "template", "quotes", CHART, "--set-file", f"prometheusRules={path}")
    assert "{{ $labels.instance }}" in said


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PrometheusRule"])
def test_prometheus_may_choose_by_labels(full: Documents, kind: str) -> None:
    metadata, others = full[kind]["metadata"], full["Deployment"]["metadata"]
    assert metadata["labels"] == others["labels"] | LABELS
    assert metadata["namespace"] == others["namespace"]


def test_it_is_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version


def test_the_metric_that_it_scales_by_is_there(full: Documents) -> None:
    (metric,) = full["HorizontalPodAutoscaler"]["spec"]["metrics"]
    known = {one.name for one in Metrics().registry.collect()}
    assert metric["pods"]["metric"]["name"] in known
