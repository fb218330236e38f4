"""``deploy/compose.yaml``, really started with podman-compose: the profile ``demo``.

Redis, nginx and Prometheus are Debian's. Debian has no Grafana: that service alone is not started,
and what it is given is only read.
"""

import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.containers import Store
from tests.deploy.tools import DEPLOY, run
from tests.e2e.gateway import free_port
from tests.e2e.process import EVENT_STREAM
from tests.e2e.waiting import until
from tests.oracle.sse import Reader

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]  # base images are made first

COMPOSE = DEPLOY / "compose.yaml"
EXAMPLE = "gateway.env.example"
SERVICES = ("redis", "exchange", "gateway-1", "gateway-2", "certificate", "nginx", "prometheus")
SERVERS = ("redis-server", "nginx-light", "prometheus", "ca-certificates")
STARTED = 60.0
"""Seconds after which everything must answer."""


class Deployment:
    """The services, under a name of this run's own."""

    def __init__(self, images: Store) -> None:
        self.images = images
        self.https, self.prometheus = free_port(), free_port()
        self._name = f"sluice{os.getpid()}"

    def compose(self, *words: str) -> str:
        return self.images.told(
            *("podman-compose", "--in-pod=false", "--project-name", self._name),
            *("--file", COMPOSE, "--profile", "demo", *words),
            HTTPS_PORT=str(self.https),
            PROMETHEUS_PORT=str(self.prometheus),
        )

    def container(self, service: str) -> str:
        return f"{self._name}_{service}_1"

    def client(self, folder: Path) -> httpx.AsyncClient:
        """A client of HTTP/2 that trusts the certificate which was made."""
        certificate = folder / "sluice.crt"
        text = self.images.told(
            "podman", "exec", self.container("nginx"), "cat", "/etc/tls/sluice.crt"
        )
        certificate.write_text(text)
        trusted = ssl.create_default_context(cafile=str(certificate))
        return httpx.AsyncClient(
            base_url=f"https://localhost:{self.https}",
            http1=False,
            http2=True,
            verify=trusted,
            trust_env=False,
        )


@pytest.fixture(name="deployment", scope="module")
def _deployment(images: Store) -> Iterator[Deployment]:
    servers = images.base(SERVERS)
    images.must_run(servers)  # with a network
    for name in ("redis:7.4", "nginx:1.28"):
        images.told("podman", "tag", servers, f"docker.io/library/{name}")
    container = images.told("buildah", "from", "--pull-never", servers)
    images.told("buildah", "config", "--entrypoint", '["prometheus"]', container)
    images.told("buildah", "commit", "--rm", container, "docker.io/prom/prometheus:v3.5.0")
    found = Deployment(images)
    try:
        found.compose("up", "--detach", "--no-build", *SERVICES)
        yield found
    finally:
        found.compose("down", "--volumes", "--timeout", "5")


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


COMMENTED = (
    *("volumes: [./keys", "alerting:", "  alertmanagers:", "    - static_configs:"),
    *("        - targets:", "authorization:", "  credentials_file:"),
)
"""How lines begin that an operator may take out of their comments."""


@pytest.fixture(name="with_keys")
def _with_keys(tmp_path: Path) -> Path:
    """A copy of ``deploy/`` with these lines."""
    copy = shutil.copytree(DEPLOY, tmp_path / "deploy")
    lines = re.compile(rf"^( *)# ({'|'.join(map(re.escape, COMMENTED))})", re.MULTILINE)
    changed = 0
    for path in (copy / "compose.yaml", copy / "prometheus" / "prometheus.yaml"):
        text, count = lines.subn(r"\1\2", path.read_text())
        path.write_text(text)
        changed += count
    assert changed == len(COMMENTED)
    return copy


def test_with_keys_and_an_alertmanager_the_files_are_valid(with_keys: Path) -> None:
    path = with_keys / "compose.yaml"
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)
    gateway = yaml.safe_load(path.read_text())["services"]["gateway-1"]
    assert gateway["volumes"] == ["./keys:/etc/sluice/keys:ro"]
    assert "#SLUICE_API_KEYS_FILE=/etc/sluice/keys/" in (with_keys / EXAMPLE).read_text()
    path = with_keys / "prometheus" / "prometheus.yaml"
    run("promtool", "check", "config", "--syntax-only", path)
    settings = yaml.safe_load(path.read_text())
    assert settings["alerting"]["alertmanagers"]
    assert settings["scrape_configs"][0]["authorization"] == {"credentials_file": "/etc/sluice/key"}


def test_the_gateways_see_the_keys_that_are_made(images: Store, with_keys: Path) -> None:
    keys = with_keys / "keys"
    keys.mkdir(0o700)
    os.chown(keys, 10001, -1)

    def command(volume: str, *words: str) -> str:
        once = ("podman", "run", "--rm", "--network=none", "--read-only")
        return images.told(*once, f"--volume={volume}", "sluice", "keys", *words)

    new = ("--file", "/keys/keys.json", "--name", "desk", "--scopes", "market")
    assert command(f"{keys}:/keys", "create", *new).startswith("sluice_")
    gateway = yaml.safe_load((with_keys / "compose.yaml").read_text())["services"]["gateway-1"]
    (volume,) = gateway["volumes"]
    seen = volume.replace("./keys", str(keys))
    assert "desk" in command(seen, "list", "--file", "/etc/sluice/keys/keys.json")


def test_the_example_names_what_the_file_sets_itself() -> None:
    own = {name for name in services()["gateway-1"]["environment"] if name.startswith("SLUICE_")}
    comment, _, _ = (DEPLOY / EXAMPLE).read_text().partition("\n\n")
    assert set(re.findall(r"\bSLUICE_\w+", comment)) == own


def test_the_file_is_a_compose_file() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


@pytest.mark.parametrize("name", services())
def test_every_service_has_few_rights_and_a_bound(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges"]
    assert service["mem_limit"]
    if name.startswith("gateway"):
        assert "/tmp" in service["tmpfs"], "for --workers"  # noqa: S108 -- in the container
    if name != "certificate":
        assert "healthcheck" in service or service["image"] == "sluice"


@pytest.mark.parametrize(
    ("name", "command", "password"),
    [
        ("redis", "command", ""),
        ("redis", "command", "a+b/c="),
        ("grafana", "entrypoint", ""),
    ],
)
def test_a_password_that_cannot_be_used_ends_its_service(
    name: str, command: str, password: str
) -> None:
    service = services()[name]
    (variable,) = (one for one, text in service["environment"].items() if "PASSWORD-" in text)
    words = [word.replace("$$", "$") for word in service[command]]
    done = subprocess.run(
        words, env={variable: password}, capture_output=True, text=True, check=False
    )
    assert done.returncode in {1, 2}
    assert "PASSWORD in .env" in done.stderr


def test_only_what_is_not_set_has_a_default() -> None:
    """So that a line left blank in .env is no silent way to the demo's passwords."""
    for name, default in re.findall(r"(?<!\$)\$\{(\w*PASSWORD)(.*?)\}", COMPOSE.read_text()):
        assert default.startswith("-"), name


async def test_the_demo_streams_through_nginx_without_credentials(
    deployment: Deployment, tmp_path: Path
) -> None:
    async with deployment.client(tmp_path) as client:

        async def ready() -> bool:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        gateway = deployment.container("gateway-1")
        await until(ready, lambda: deployment.images.log(gateway), limit=STARTED)

        async def who() -> str:
            return str((await client.get("/v1/status")).json()["process"])

        told: set[str] = set()

        async def both() -> bool:
            told.add(await who())
            return len(told) == 2

        await until(both, lambda: f"two processes among {told}")

        path = "/v1/stream?channels=ticker:BTC_USDT"
        async with client.stream("GET", path, headers={"accept": EVENT_STREAM}) as answer:
            assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
            reader, types = Reader(), [""]
            async for piece in answer.aiter_raw():
                reader.feed(piece)
                types = [block.json()["type"] for block in reader.blocks]
                if "update" in types:
                    break
            assert types[:2] == ["status", "snapshot"]


async def test_prometheus_scrapes_both_gateways(deployment: Deployment) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:

        async def up() -> bool:
            url = f"http://127.0.0.1:{deployment.prometheus}/api/v1/targets"
            try:
                targets = (await client.get(url)).json()["data"]["activeTargets"]
            except httpx.TransportError:
                return False
            return [one["health"] for one in targets] == ["up", "up"]

        await until(up, "both targets up", limit=STARTED)


def test_redis_keeps_its_journal_on_disk(deployment: Deployment) -> None:
    ask = ("podman", "exec", deployment.container("redis"), "redis-cli")
    told = deployment.images.told
    assert told(*ask, "exists", "{sluice}:journal") == "1"
    assert "aof_enabled:1" in told(*ask, "info", "persistence")
    assert "noeviction" in told(*ask, "config", "get", "maxmemory-policy")


def test_each_service_runs_as_its_file_says(deployment: Deployment) -> None:
    for name in SERVICES:
        if name == "certificate":  # it has ended
            continue
        found = deployment.images.inspect(deployment.container(name))
        assert found["HostConfig"]["ReadonlyRootfs"] is True
        assert found["EffectiveCaps"] in (None, [])
        done = deployment.images.told(
            "podman", "exec", deployment.container(name), "sh", "-c", "id -u"
        )
        assert done != "0", name


def test_the_gateways_end_in_time_with_a_farewell(deployment: Deployment) -> None:
    for name in ("gateway-1", "gateway-2"):
        container = deployment.container(name)
        deployment.images.told("podman", "stop", "--time", "20", container)
        assert deployment.images.inspect(container)["State"]["ExitCode"] == 0
        assert '"event": "stopping"' in deployment.images.log(container)


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    grafana = services()["grafana"]
    assert "./grafana:/etc/sluice:ro" in grafana["volumes"]
    provisioned = DEPLOY / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioned / "datasources" / "prometheus.yaml").read_text())
    assert sources["datasources"][0]["url"] == "http://prometheus:9090"
    boards = yaml.safe_load((provisioned / "dashboards" / "sluice.yaml").read_text())
    assert boards["providers"][0]["options"]["path"] == "/etc/sluice"
    for board in (DEPLOY / "grafana").glob("*.json"):
        json.loads(board.read_text())
