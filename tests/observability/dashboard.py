"""Checks a dashboard of Grafana: its structure, and what its panels and variables ask Prometheus for."""

import itertools
import re

from promql import ANYTHING, Wrong

# The newest version of the schema of dashboards without tabs, as Grafana 12 and 13 have it.
SCHEMA_VERSION = 42
COLUMNS = 24
# Panels that show series, and need to know their unit.
MEASURING = {"timeseries", "stat", "gauge", "bargauge", "heatmap"}
BUILT_IN = {"__rate_interval": "1m", "__interval": "1m", "__range": "1h"}
VARIABLE = re.compile(r"\$\{?(\w+)(?::\w+)?\}?")
LABEL_VALUES = re.compile(r"label_values\((.+),\s*(\w+)\)")


class Dashboard:
    def __init__(self, json):
        self.json = json
        self.rows = [panel for panel in json["panels"] if panel["type"] == "row"]
        inner = itertools.chain.from_iterable(row.get("panels", []) for row in self.rows)
        self.panels = [panel for panel in json["panels"] if panel["type"] != "row"] + list(inner)
        self.variables = {variable["name"]: variable for variable in json["templating"]["list"]}

    def check(self, datasource, vocabulary):
        yield from self.check_itself()
        yield from self.check_places()
        yield from self.check_datasources(datasource)
        yield from self.check_variables(vocabulary)
        for panel in self.panels:
            yield from (f"{panel['title']}: {problem}" for problem in check_panel(panel))
            for target in panel.get("targets", []):
                problems = self.check_target(panel, target, vocabulary)
                yield from (f"{panel['title']}, {target['refId']}: {problem}" for problem in problems)

    def check_itself(self):
        if self.json["schemaVersion"] != SCHEMA_VERSION:
            yield f"schemaVersion is {self.json['schemaVersion']}, not {SCHEMA_VERSION}"
        if "id" in self.json or not self.json.get("uid"):
            yield "it needs a uid, and no id, which is a database's"
        everything = self.rows + self.panels
        for name in ("id", "title"):
            values = [panel[name] for panel in everything]
            for value in sorted({value for value in values if values.count(value) > 1}):
                yield f"two panels have the {name} {value}"

    def check_places(self):
        for panel in self.rows + self.panels:
            place = panel["gridPos"]
            if place["x"] < 0 or place["x"] + place["w"] > COLUMNS:
                yield f"{panel['title']}: outside of {COLUMNS} columns"
        for one, other in itertools.combinations(self.rows + self.panels, 2):
            if overlap(one["gridPos"], other["gridPos"]):
                yield f"{one['title']} lies on {other['title']}"

    def check_datasources(self, expected):
        """The uid is the provisioned one, so that the dashboard shows something without being asked what to use."""
        for path, value in walk(self.json):
            if path[-1] == "datasource" and value != expected and "builtIn" not in path:
                if not (path[0] == "annotations" and value.get("uid") == "-- Grafana --"):
                    yield f"{'.'.join(map(str, path))} is {value}, not {expected}"
            if isinstance(value, str) and "://" in value:
                yield f"{'.'.join(map(str, path))} names a host: {value}"

    def check_variables(self, vocabulary):
        text = str([self.panels, [variable["query"] for variable in self.variables.values()]])
        used = {name for name in VARIABLE.findall(text)} - BUILT_IN.keys()
        for name in sorted(used - self.variables.keys()):
            yield f"there is no variable {name}"
        for name in sorted(self.variables.keys() - used):
            yield f"nothing uses the variable {name}"
        for name, variable in self.variables.items():
            if variable["type"] != "query":
                continue
            found = LABEL_VALUES.fullmatch(variable["query"]["query"])
            if found is None:
                yield f"the variable {name} is no label_values(series, label)"
                continue
            try:
                labels = vocabulary.labels_of(substitute(found[1]))
                if found[2] not in labels:
                    yield f"the variable {name}: {found[1]} has no label {found[2]}"
            except Wrong as wrong:
                yield f"the variable {name}: {wrong}"

    @staticmethod
    def check_target(panel, target, vocabulary):
        try:
            labels = vocabulary.labels_of(substitute(target["expr"]))
        except Wrong as wrong:
            yield str(wrong)
            return
        shown = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target.get("legendFormat", "")))
        if panel["type"] == "timeseries" and not target.get("legendFormat"):
            yield "a series needs a legendFormat"
        # What a legend leaves out makes two lines look like one.
        if panel["type"] == "timeseries" and (labels or set()) != shown:
            yield f"the legend shows {sorted(shown)}, the series differ by {sorted(labels or [])}"

    def expressions(self):
        for panel in self.panels:
            for target in panel.get("targets", []):
                yield f"{panel['title']}, {target['refId']}", substitute(target["expr"])


def check_panel(panel):
    targets = panel.get("targets", [])
    if not targets:
        yield "it asks for nothing"
    names = [target["refId"] for target in targets]
    if len(set(names)) < len(names):
        yield f"refId twice: {names}"
    if panel["type"] in MEASURING and not panel["fieldConfig"]["defaults"].get("unit"):
        yield "it has no unit"
    if not panel.get("description"):
        yield "it has no description"


def substitute(expression):
    """Returns the expression as Prometheus could get it."""
    return VARIABLE.sub(lambda found: BUILT_IN.get(found[1], ANYTHING), expression)


def overlap(one, other):
    apart = (
        one["x"] + one["w"] <= other["x"]
        or other["x"] + other["w"] <= one["x"]
        or one["y"] + one["h"] <= other["y"]
        or other["y"] + other["h"] <= one["y"]
    )
    return not apart


def walk(value, path=()):
    """Yields everything in a JSON value with where it is."""
    if path:
        yield path, value
    if isinstance(value, dict):
        for name, part in value.items():
            yield from walk(part, (*path, name))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from walk(part, (*path, index))
