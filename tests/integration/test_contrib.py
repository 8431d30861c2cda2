"""What operators import fits the daemon: alert rules, dashboard, systemd unit."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from conftest import need_tool

SRCDIR = Path(os.environ["SRCDIR"])
BUILDDIR = Path(os.environ["BUILDDIR"])
RULES = SRCDIR / "contrib/prometheus/pglockd.rules.yml"
DASHBOARD = SRCDIR / "contrib/grafana/pglockd.json"

NAME = re.compile(r"\b((?:pglockd|process)_[a-z0-9_]+)\b")


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def metrics():
    """Names of all metrics that are declared, with the parts of histograms."""
    declared = re.findall(r'^METRIC\(\w+, *"(\w+)", (\w+)',
                          (SRCDIR / "src/base/metrics.def").read_text(), re.M)
    parts = {name + part for name, kind in declared if kind == "HISTOGRAM"
             for part in ("_bucket", "_sum", "_count")}
    return {name for name, _ in declared} | parts


def expressions(thing):
    """Every "expr" and "query" of a dashboard."""
    if isinstance(thing, dict):
        for key, value in thing.items():
            if key in ("expr", "query") and isinstance(value, str):
                yield value
            else:
                yield from expressions(value)
    elif isinstance(thing, list):
        for value in thing:
            yield from expressions(value)


def test_alert_rules_are_valid():
    run(need_tool("promtool"), "check", "rules", RULES)
    run(need_tool("promtool"), "check", "config", SRCDIR / "contrib/prometheus/scrape.yml")


def test_each_alert_speaks_when_it_should_and_then_only():
    run(need_tool("promtool"), "test", "rules", SRCDIR / "tests/prometheus/pglockd_test.yml")


def test_each_alert_has_a_test_and_a_runbook():
    rules = RULES.read_text().split("- alert: ")[1:]
    tested = (SRCDIR / "tests/prometheus/pglockd_test.yml").read_text()
    assert len(rules) > 20
    for rule in rules:
        name = rule.split()[0]
        assert f'alertname="{name}"' in tested, name
        for field in "summary", "runbook":
            assert len(re.findall(rf"^ +{field}: \S.*", rule, re.M)) == 1, (name, field)
        assert re.search(r"severity: (critical|warning)}", rule), name


def test_alerts_ask_for_metrics_that_exist(metrics):
    asked = {name for line in RULES.read_text().splitlines() if " expr: " in line
             for name in NAME.findall(line)}
    assert len(asked) > 15 and asked <= metrics, asked - metrics


def test_dashboard_asks_for_metrics_that_exist(metrics):
    asked = {name for text in expressions(json.loads(DASHBOARD.read_text()))
             for name in NAME.findall(text)}
    assert len(asked) > 20 and asked <= metrics, asked - metrics


@pytest.fixture(scope="module")
def labels():
    """{(metric, label): its values}, as docs/metrics.md lists them; None where it lists none."""
    found = {}
    for name, line in re.findall(r"^### (\w+)\n\n.*\n\n\*[a-z ]+\*(.*)$",
                                 (SRCDIR / "docs/metrics.md").read_text(), re.M):
        for label, values in re.findall(r"`(\w+)`(?: \(((?:\([^)]*\)|[^()])*)\))?", line):
            closed = values and label not in ("policy", "lane")
            found[name, label] = set(values.split(", ")) if closed else None
    return found


def matchers(text):
    """(metric, label, operator, value) of each label matcher in an expression."""
    for name, inside in re.findall(r"\b(pglockd_\w+)\{([^}]*)\}", text):
        name = re.sub(r"_(bucket|sum|count)$", "", name)
        for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', inside):
            if label not in ("job", "instance", "le"):
                yield name, label, operator, value


def test_labels_that_are_asked_for_exist(labels):
    """Alerts and dashboard that look for a label value which nobody counts would be silent for ever."""
    texts = [line for line in RULES.read_text().splitlines() if " expr: " in line]
    texts += expressions(json.loads(DASHBOARD.read_text()))
    asked = {m for text in texts for m in matchers(text)}
    assert len(asked) > 10
    for name, label, operator, value in asked:
        assert (name, label) in labels, (name, label)
        known = labels[name, label]
        values = value.split("|") if operator in ("=~", "!~") else [value]
        assert known is None or known.issuperset(values), (name, label, value)


def test_dashboard_expressions_are_valid(tmp_path):
    """As rules, for which promtool has a check; Grafana's variables filled in."""
    rules = []
    for n, panel in enumerate(json.loads(DASHBOARD.read_text())["panels"]):
        for target in panel.get("targets", []):
            text = target["expr"].replace("$__rate_interval", "1m").replace("$job", "pglockd")
            rules.append({"record": f"panel:{n}", "expr": text.replace("$instance", ".*")})
    assert len(rules) > 40
    path = tmp_path / "dashboard.yml"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    run(need_tool("promtool"), "check", "rules", path)


def test_dashboard_imports_without_edits():
    board = json.loads(DASHBOARD.read_text())
    assert board["uid"] == "pglockd" and "id" not in board and "__inputs" not in board
    assert [v["name"] for v in board["templating"]["list"]] == ["datasource", "job", "instance"]
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [(x, y) for at in (panel["gridPos"] for panel in panels)
             for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) == 23
    for panel in panels:
        # Only the variable: a data source of somebody's own would be missing elsewhere.
        for part in [panel, *panel.get("targets", [])] if panel["type"] != "row" else []:
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_systemd_unit(tmp_path):
    unit = (BUILDDIR / "contrib/systemd/pglockd.service").read_text()
    program = re.search(r"^ExecStart=(\S+)", unit, re.M)[1]
    assert program.endswith("/pglockd") and "@" not in program
    for line in "Type=notify", "KillMode=mixed", "RestartPreventExitStatus=78", "User=pglockd":
        assert line in unit.splitlines()
    assert re.search(r"^WatchdogSec=", unit, re.M)
    checked = tmp_path / "pglockd.service"
    checked.write_text(unit.replace(program, "/bin/true")
                       .replace("Documentation=", "#").replace("User=pglockd", "User=root")
                       .replace("Group=pglockd", "Group=root"))
    said = subprocess.run([need_tool("systemd-analyze"), "verify", "--man=no", str(checked)],
                          capture_output=True, text=True, timeout=60, check=False)
    assert "pglockd.service" not in said.stderr, said.stderr
