"""The unit as systemd reads it, and the way from a clean machine to two processes as it is told."""

import configparser
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.machine import Machine, needed
from tests.deploy.tools import DEPLOY, ROOT, run

UNIT = DEPLOY / "systemd" / "sluice@.service"
CHAPTER = "systemd without containers"
ENVIRONMENT = "/etc/sluice/sluice.env"
NOBODY_THERE = "SLUICE_BROKER_URL=redis://127.0.0.1:1/0?protocol=3&socket_timeout=1"
"""To a shell that is something else."""
EXPOSED = 15
"""How exposed the service may be, of 100, as `systemd-analyze security` counts."""
EXCHANGE = """
cat >> /etc/sluice/sluice.env <<END
SLUICE_UPSTREAM_USER_ID=demo-user
SLUICE_UPSTREAM_API_KEY=demo-key
SLUICE_UPSTREAM_WS_URL=ws://127.0.0.1:9000/ws
SLUICE_UPSTREAM_API_URL=http://127.0.0.1:9000
SLUICE_UPSTREAM_MARKETS_URL=http://127.0.0.1:9000
SLUICE_UPSTREAM_SCALES_URL=http://127.0.0.1:9000
END
systemd-run --quiet --unit=exchange /opt/sluice/bin/sluice simulate --port 9000
until curl -fsS -o /dev/null 127.0.0.1:9000/control; do sleep 0.2; done
"""
"""What stands for "write your credentials there"."""


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    here = tmp_path / "sluice@8001.service"
    here.write_text(UNIT.read_text().replace("/opt/sluice/bin/sluice", "/bin/true"))
    assert run("systemd-analyze", "verify", "--man=no", here) == ""


def test_the_service_is_hardly_exposed() -> None:
    run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSED}", UNIT)


def test_it_is_given_the_time_that_its_end_takes() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.read(UNIT)
    settings = (UNIT.parent / "sluice.env").read_text()
    drain = re.search(r"^SLUICE_DRAIN=(\d+)$", settings, re.MULTILINE)
    assert drain
    assert unit.getint("Service", "TimeoutStopSec") >= int(drain[1]) + 5


def blocks_of(chapter: str) -> list[str]:
    """The commands of a chapter of docs/operations.md, a block each."""
    text = (ROOT / "docs" / "operations.md").read_text()
    (body,) = re.findall(rf"^## {chapter}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```sh\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)


@pytest.fixture(name="machine", scope="module")
def _machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine after every command of the chapter."""
    needed()
    packages, programs, *blocks = blocks_of(CHAPTER)
    folder = tmp_path_factory.mktemp("machine")
    machine = Machine(folder / "root")
    wanted = packages.replace("\\\n", " ").split()
    assert wanted[:4] == ["apt-get", "install", "--yes", "--no-install-recommends"]
    machine.install([*wanted[4:], "systemd-sysv", "dbus"])
    machine.prepare(programs)
    with machine.booted(folder / "boot.log"):
        for block in blocks:
            machine.sh(block)
            if "/etc/sluice/sluice.env" in block and "install" in block:
                machine.sh(EXCHANGE)
        yield machine


@pytest.mark.deploy
@pytest.mark.timeout(900)
class TestMachine:
    """Whole, on a Debian that was clean before."""

    def test_two_processes_are_one_deployment(self, machine: Machine) -> None:
        held = [
            float(
                machine.sh(f"curl -fsS 127.0.0.1:{port}/metrics | grep ^sluice_lease_held").split()[
                    1
                ]
            )
            for port in (8001, 8002)
        ]
        assert sum(held) == 1

    def test_the_sandbox_holds(self, machine: Machine) -> None:
        status = machine.sh(f"cat /proc/{_main(machine)}/status")
        words = {line.split(":")[0]: line.split()[1:] for line in status.splitlines()}
        assert int(words["Uid"][0]) >= 61184  # the first of those that systemd gives out
        assert words["NoNewPrivs"] == ["1"]
        assert words["Seccomp"] == ["2"]
        assert {int(words[name][0], 16) for name in ("CapEff", "CapBnd")} == {0}

    def test_prometheus_sees_both(self, machine: Machine) -> None:
        query = "http://127.0.0.1:9090/api/v1/query?query=sum(up{job=%22sluice%22})"
        machine.sh(f"until curl -gfsS '{query}' | grep -q ',\"2\"]'; do sleep 0.2; done")
        assert "SluiceFeedDown" in machine.sh("curl -fsS http://127.0.0.1:9090/api/v1/rules")

    def test_a_process_tells_of_its_files_and_its_memory(self, machine: Machine) -> None:
        told = machine.sh("curl -fsS 127.0.0.1:8001/metrics")
        for name in ("process_open_fds", "process_max_fds", "process_resident_memory_bytes"):
            assert re.search(rf"^{name} \d", told, re.MULTILINE)

    def test_the_check_reads_the_settings_as_systemd_does(self, machine: Machine) -> None:
        (check,) = (block for block in blocks_of(CHAPTER) if "/bin/sluice check" in block)
        machine.sh(
            f"cp -p {ENVIRONMENT} {ENVIRONMENT}.kept; echo '{NOBODY_THERE}' >> {ENVIRONMENT}"
        )
        told = machine.sh(f"! {{ {check}}}; cp -p {ENVIRONMENT}.kept {ENVIRONMENT}")
        assert "SLUICE_BROKER_URL: " in told

    def test_one_that_is_killed_comes_back(self, machine: Machine) -> None:
        before = _main(machine)
        machine.sh("systemctl kill --signal KILL sluice@8001")
        machine.sh(f"until [ $({MAIN}) != {before} ] && [ $({MAIN}) != 0 ]; do sleep 0.2; done")
        machine.sh("until curl -fsS '127.0.0.1:8001/readyz?for=traffic'; do sleep 0.2; done")

    def test_a_stop_is_a_drain(self, machine: Machine) -> None:
        machine.sh("systemctl stop sluice@8002")
        said = machine.sh("journalctl --unit sluice@8002 --output cat --no-pager")
        assert '"event": "stopping"' in said
        assert machine.sh("systemctl show --property Result --value sluice@8002") == "success\n"
        machine.sh("systemctl start sluice@8002")

    def test_keys_are_handed_in_and_taken_away_by_a_restart(self, machine: Machine) -> None:
        """The last block of the chapter made the file; it counts from the next start on."""
        keys = "SLUICE_API_KEYS_FILE=/etc/sluice/keys.json /opt/sluice/bin/sluice keys"
        again = (
            "systemctl restart sluice@8001;"
            " until curl -fsS '127.0.0.1:8001/readyz?for=traffic'; do sleep 0.2; done"
        )
        asked = "curl -sS -o /dev/null -w '%{http_code}' 127.0.0.1:8001/v1/markets -H X-API-Key:"
        key = machine.sh(f"{keys} create --name test --scopes market").strip()
        machine.sh(again)
        assert machine.sh(f"{asked}unknown") == "401"
        assert machine.sh(f"{asked}{key}") == "200"
        machine.sh(f"{keys} revoke test; {again}")
        assert machine.sh(f"{asked}{key}") == "401"

    def test_settings_that_are_wrong_are_not_tried_again(self, machine: Machine) -> None:
        machine.sh("echo SLUICE_HISTORY=none >> /etc/sluice/sluice.env")
        machine.sh(
            "systemctl restart sluice@8001;"
            " while systemctl is-active sluice@8001; do sleep 0.2; done"
        )
        shown = machine.sh("systemctl show --property ActiveState,ExecMainStatus sluice@8001")
        assert set(shown.split()) == {"ActiveState=failed", "ExecMainStatus=2"}
        assert "SLUICE_HISTORY" in machine.sh("journalctl --unit sluice@8001 -o cat --no-pager")
        machine.sh("sed -i /=none/d /etc/sluice/sluice.env; systemctl start sluice@8001")


MAIN = "systemctl show --property MainPID --value sluice@8001"


def _main(machine: Machine) -> int:
    return int(machine.sh(MAIN))
