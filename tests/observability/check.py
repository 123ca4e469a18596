#!/usr/bin/env python3
"""Checks deploy/observability, without running it.

- Prometheus' own promtool takes the configuration and the rules, and every alert fires in one of its tests and stays
  silent in another one (alerts_test.yaml).
- The services expose every metric and every label that the rules and Grafana's dashboard ask for. What they expose is
  given as files or URLs, any number for a service:

      check.py --metrics generator=FILE processor=FILE dashboard=http://127.0.0.1:8080/metrics

  `scrape.py` gets it from real services.
- docs/observability.md lists every metric that the services expose, and no other.
- The parts fit each other: names and ports of the stack, the dashboard's data source, the grid of its panels.

Needs Go, Python 3.9 and pip. The tools come from Go's and Python's package registries into the checkout's cache folder,
once.
"""

import argparse
import contextlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from dashboard import Dashboard  # noqa: E402
from exposition import Exposition, read  # noqa: E402
from pinned import ROOT, Tools  # noqa: E402
from promql import Vocabulary, Wrong  # noqa: E402

OBSERVABILITY = ROOT / "deploy" / "observability"
PROMETHEUS = OBSERVABILITY / "prometheus"
GRAFANA = OBSERVABILITY / "grafana"
PAGE = ROOT / "docs" / "observability.md"
ALERT_TESTS = Path(__file__).resolve().parent / "alerts_test.yaml"
TOOLS = Tools("observability")
PROMTOOL = TOOLS.program("promtool")

# The version of the image in deploy/compose.yaml; as a Go module 3.x is 0.3xx.
PROMETHEUS_VERSION = "3.15.0"
MODULE = "github.com/prometheus/prometheus@v0.315.0"
# Of the ways to discover targets only the one that is used here, which is most of the work of building it.
TAGS = "remove_all_sd,enable_dns_sd"
PYTHON_PACKAGES = ("PyYAML==6.0.3", "prometheus-client==0.26.0", "promql-parser==0.12.0")

SERVICES = ("generator", "processor", "dashboard")
SEVERITIES = {"critical", "warning"}
LABEL = re.compile(r"\$labels\.(\w+)")
ALERT_EXPECTED = re.compile(r'ALERTS\{alertname="(\w+)"')


def prepare():
    """Fetches what is not in the cache folder yet."""
    TOOLS.prepare([MODULE, *PYTHON_PACKAGES], fetch)


def fetch():
    TOOLS.build_go(MODULE, "./cmd/promtool", TAGS)
    TOOLS.install_python(*PYTHON_PACKAGES)


def load(path):
    import yaml

    return json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())


def promtool(*arguments):
    """Yields what promtool says, if it finds a fault."""
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        yield f"promtool {' '.join(map(str, arguments[:2]))}:\n{done.stdout}{done.stderr}".strip()


class Rules:
    """The rules, in the order in which they are evaluated."""

    def __init__(self, config):
        self.rules = []
        for name in config["rule_files"]:
            for group in load(PROMETHEUS / name)["groups"]:
                self.rules += group["rules"]
        self.alerts = [rule for rule in self.rules if "alert" in rule]
        self.names = [rule["alert"] for rule in self.alerts]

    def check(self, vocabulary):
        """Adds what the rules make to the vocabulary, too."""
        seen = vocabulary.made["ALERTS"] = {"alertname": set(self.names), "alertstate": {"firing", "pending"}}
        seen["severity"] = SEVERITIES
        for rule in self.rules:
            try:
                if "record" in rule:
                    vocabulary.record(rule["record"], rule["expr"])
                    continue
                labels = vocabulary.labels_of(rule["expr"])
            except Wrong as wrong:
                yield f"{rule.get('alert') or rule['record']}: {wrong}"
                continue
            seen.update({label: set() for label in labels - seen.keys()})
            yield from (f"{rule['alert']}: {problem}" for problem in check_alert(rule, labels))

    def check_tests(self):
        """Every alert has a test in which it fires and one in which it does not."""
        expected = {"fires": set(), "stays silent": set()}
        for group in load(ALERT_TESTS)["tests"]:
            for test in group["promql_expr_test"]:
                names = ALERT_EXPECTED.findall(test["expr"])
                expected["fires" if test["exp_samples"] else "stays silent"].update(names)
        for outcome, names in expected.items():
            for name in self.names:
                if name not in names:
                    yield f"{name}: there is no test in which it {outcome}"
            for name in names - set(self.names):
                yield f"there is no alert {name} to test"


def check_alert(rule, labels):
    if rule.get("labels", {}).get("severity") not in SEVERITIES:
        yield f"its severity is none of {', '.join(sorted(SEVERITIES))}"
    if "for" not in rule:
        yield "it does not say for how long"
    for name in ("summary", "description"):
        text = rule.get("annotations", {}).get(name, "")
        if not text:
            yield f"it has no {name}"
        for label in set(LABEL.findall(text)) - labels:
            yield f"its {name} shows the label {label}, its series have {sorted(labels)}"
    if "`" not in rule.get("annotations", {}).get("description", ""):
        yield "its description names no command"


def grafana_dashboard():
    return Dashboard(load(GRAFANA / "dashboards" / "orders.json"))


def datasource():
    """Returns the one source of data that Grafana is given."""
    (source,) = load(GRAFANA / "provisioning" / "datasources" / "prometheus.yaml")["datasources"]
    return source


def check_dashboard(vocabulary):
    source = datasource()
    yield from grafana_dashboard().check({"type": source["type"], "uid": source["uid"]}, vocabulary)


def questions(exposition):
    """Yields what rules and dashboard ask for and the services do not expose, and what else is wrong with them."""
    vocabulary = Vocabulary(exposition)
    yield from Rules(load(PROMETHEUS / "prometheus.yaml")).check(vocabulary)
    yield from check_dashboard(vocabulary)


def check_page(exposition):
    rows = (line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `"))
    listed = {name for row in rows for name in re.findall(r"`(\w+)", row)}
    yield from (f"{PAGE.name} does not list {name}" for name in sorted(exposition.families - listed))
    yield from (f"{PAGE.name} lists {name}, which no service exposes" for name in sorted(listed - exposition.families))


def check_syntax(dashboard):
    """Has promtool judge the dashboard's expressions, as rules that record them."""
    rules = [{"record": f"panel_{number}", "expr": expr} for number, (_, expr) in enumerate(dashboard.expressions())]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump({"groups": [{"name": "panels", "rules": rules}]}, file)
        file.flush()
        yield from promtool("check", "rules", "--lint=none", file.name)


def check_stack(config):
    """What is named here is there in the stack."""
    compose = load(ROOT / "deploy" / "compose.yaml")
    services = compose["services"]
    (scrape,) = config["scrape_configs"]
    (discovery,) = scrape["dns_sd_configs"]
    if sorted(discovery["names"]) != sorted(SERVICES):
        yield f"{discovery['names']} are scraped, not {list(SERVICES)}"
    for name in discovery["names"]:
        if name not in services:
            yield f"deploy/compose.yaml has no service {name}"
    port = re.search(r":(\d+)\}$", compose["x-settings"]["HTTP_ADDR"])[1]
    if str(discovery["port"]) != port:
        yield f"port {discovery['port']} is scraped, HTTP_ADDR's is {port}"
    image = services["prometheus"]["image"]
    if f":v{PROMETHEUS_VERSION}}}" not in image:
        yield f"the stack runs {image}, the rules are checked by {PROMETHEUS_VERSION}"
    source = datasource()
    if source["jsonData"]["timeInterval"] != config["global"]["scrape_interval"]:
        yield "the data source's timeInterval is not the scrape_interval"
    host, _, _ = source["url"].removeprefix("http://").partition(":")
    if host not in services:
        yield f"the data source is {source['url']}, and there is no service {host}"


def exposition_of(given):
    """Returns what the services expose, from SERVICE=SOURCE."""
    exposition = Exposition()
    for pair in given:
        service, _, source = pair.partition("=")
        if service not in SERVICES or not source:
            sys.exit(f"check.py: {pair} is not SERVICE=FILE or SERVICE=URL, with one of {', '.join(SERVICES)}")
        try:
            exposition.add(service, read(source))
        except (OSError, ValueError) as error:
            sys.exit(f"check.py: {source}: {error}")
    missing = set(SERVICES) - {service for metric in exposition.metrics.values() for service in metric.services}
    if missing:
        sys.exit(f"check.py: nothing of {', '.join(sorted(missing))} was given")
    return exposition


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_text = "what the services expose"
    parser.add_argument("--metrics", nargs="+", required=True, metavar="SERVICE=SOURCE", help=help_text)
    given = parser.parse_args().metrics
    prepare()
    exposition = exposition_of(given)
    vocabulary = Vocabulary(exposition)
    config = load(PROMETHEUS / "prometheus.yaml")
    rules = Rules(config)
    checks = {
        "configuration": promtool("check", "config", PROMETHEUS / "prometheus.yaml"),
        "rules": list(rules.check(vocabulary)),
        "tests of the alerts": [*rules.check_tests(), *promtool("test", "rules", ALERT_TESTS)],
        "dashboard": [*check_dashboard(vocabulary), *check_syntax(grafana_dashboard())],
        "page": check_page(exposition),
        "stack": check_stack(config),
    }
    failed = False
    for name, problems in checks.items():
        problems = list(problems)
        print(f"{name}: {'FAILED' if problems else 'ok'}")
        for problem in problems:
            print(f"  {problem}")
        failed |= bool(problems)
    print(f"{len(rules.alerts)} alerts; {len(vocabulary.used)} names of series are used")
    sys.exit(failed)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
