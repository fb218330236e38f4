"""Rules and dashboard: Prometheus's own tool reads them; a gateway has every metric they name."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.tools import DEPLOY, ROOT, run
from tests.e2e.process import staged

pytestmark = pytest.mark.e2e

RULES = DEPLOY / "prometheus" / "alerts.yaml"
CASES = DEPLOY / "prometheus" / "alerts_test.yaml"
DASHBOARD = DEPLOY / "grafana" / "sluice.json"
HANDBOOK = ROOT / "docs" / "operations.md"
METRIC = re.compile(r"\b(?:sluice|process|python)_[a-z_]+\b")
FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'
FOR_EVER = "+0x1500"


def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load(RULES.read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [one for one in json.loads(DASHBOARD.read_text())["panels"] if one["type"] != "row"]


def expressions() -> Iterator[str]:
    """Those of the dashboard, with Grafana's variables as it would put them in."""
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m")
            yield re.sub(r"\$(job|instance)", ".*", expression)


def recorded(text: str) -> list[dict[str, str]]:
    """A scrape as series that stay as they are for a day."""
    found = [{"series": 'up{job="sluice", instance="a:8000"}', "values": "1" + FOR_EVER}]
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels | {"job": "sluice", "instance": "a:8000"}
            inside = ", ".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
            values = f"{sample.value:f}" + FOR_EVER
            found.append({"series": f"{sample.name}{{{inside}}}", "values": values})
    return found


def fires(folder: Path, scrape: str, *alerts: str) -> None:
    """Exactly these, half an hour on, if every scrape is like this one."""
    case = {
        "interval": "1m",
        "input_series": recorded(scrape),
        "promql_expr_test": [
            {
                "expr": FIRING,
                "eval_time": "30m",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in alerts
                ],
            }
        ],
    }
    path = folder / "recorded.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": [case]}))
    run("promtool", "test", "rules", path)


async def metrics(http: httpx.AsyncClient) -> str:
    return (await http.get("/metrics")).text


def test_the_rules_are_valid() -> None:
    assert f"{len(rules())} rules found" in run("promtool", "check", "rules", RULES)


def test_every_alert_fires_by_itself_and_none_on_healthy_processes() -> None:
    run("promtool", "test", "rules", CASES)
    cases = yaml.safe_load(CASES.read_text())["tests"]
    expected = [
        sample["labels"]
        for case in cases
        for one in case["promql_expr_test"]
        for sample in one["exp_samples"]
    ]
    assert sorted(expected) == sorted(f'{{alertname="{rule["alert"]}"}}' for rule in rules())
    silent = {
        name
        for case in cases
        if not any(one["exp_samples"] for one in case["promql_expr_test"])
        for series in case["input_series"]
        for name in METRIC.findall(series["series"])
    }
    assert silent >= {name for rule in rules() for name in METRIC.findall(rule["expr"])}


async def test_what_fires_on_real_scrapes(tmp_path: Path) -> None:
    async with staged(channels="lastprice:*") as stage:
        fires(tmp_path, await metrics(stage.http))
    async with staged({"away": True}, upstream="down") as stage:
        fires(tmp_path, await metrics(stage.http), "SluiceFeedDown")


async def test_the_gateway_has_every_metric_that_is_named() -> None:
    async with staged() as stage:
        text = await metrics(stage.http)
    families = list(text_string_to_metric_families(text))
    there = {sample.name for family in families for sample in family.samples}
    # what has labels and has not happened yet has no sample
    there |= {f"{one.name}_total" for one in families if one.type == "counter"}
    there |= {f"{one.name}_bucket" for one in families if one.type == "histogram"}
    there |= {one.name for one in families if one.type == "gauge"}
    there.add("sluice_worker_up")  # of workers alone: tests/test_workers.py
    named = {
        name
        for expression in [*expressions(), *(rule["expr"] for rule in rules())]
        for name in METRIC.findall(expression)
    }
    assert named <= there


def test_every_alert_has_an_entry_and_every_entry_an_alert() -> None:
    told = re.findall(r"^### (Sluice\w+)\n\n((?:\* .*\n)+)", HANDBOOK.read_text(), re.MULTILINE)
    assert [name for name, _ in told] == [rule["alert"] for rule in rules()]
    for (name, entry), rule in zip(told, rules(), strict=True):
        severity = rule["labels"]["severity"]
        assert severity in {"critical", "warning"}
        assert [line.split(":")[0] for line in entry.splitlines()] == [
            f"* Meaning ({severity})",
            "* Users see",
            "* Look at",
            "* Do",
        ]
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"


def test_prometheus_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    found = [
        {"record": f"panel:{number}", "expr": expression}
        for number, expression in enumerate(expressions())
    ]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": found}]}))
    assert f"{len(found)} rules found" in run("promtool", "check", "rules", path)


def test_what_every_process_counts_alike_is_shown_once(tmp_path: Path) -> None:
    processes = [f'instance="{name}", worker="{number}"' for name in "ab" for number in (0, 1)]
    shown = {
        panel["title"]: panel["targets"][0]["expr"].replace("$__rate_interval", "1m")
        for panel in panels()
    }
    case = {
        "interval": "15s",
        "input_series": [
            {
                "series": f'sluice_{name}_total{{job="sluice", kind="ticker", {process}}}',
                "values": "0+15x40",
            }
            for name in ("events", "gaps")
            for process in processes
        ],
        "promql_expr_test": [
            {
                "expr": re.sub(r"\$(job|instance)", ".*", shown[title]),
                "eval_time": "5m",
                "exp_samples": [{"labels": '{kind="ticker"}', "value": value}],
            }
            for title, value in (("Events", 1), ("Gaps", 60))
        ],
    }
    path = tmp_path / "counted.yaml"
    path.write_text(yaml.safe_dump({"tests": [case]}))
    run("promtool", "test", "rules", path)


def test_the_dashboard_can_be_loaded_anywhere() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["uid"] == "sluice"
    variables = [one["name"] for one in dashboard["templating"]["list"]]
    assert variables == ["datasource", "job", "instance"]
    numbers = [one["id"] for one in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
