"""What the services expose on /metrics: names, labels, and the values that labels were seen with."""

import urllib.request
from pathlib import Path

# Series, and labels of series, that only exist after trouble that `scrape.py` does not make.
SELDOM = {
    "kafka_consumer_commit_failures_total": {"error_type"},
    "messaging_client_operation_duration_seconds_count": {"error_type"},
}
# What Prometheus adds to every series of a target, and the series that it makes itself.
TARGET_LABELS = {"job", "instance"}
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}


def read(source):
    """Returns the text of a file or a URL."""
    if source.startswith(("http://", "https://")):
        with urllib.request.urlopen(source, timeout=10) as answer:
            return answer.read().decode()
    return Path(source).read_text()


class Metric:
    """The series of one name."""

    def __init__(self):
        self.services = set()
        # The values of each label; none while no series was seen.
        self.labels = None

    def add(self, labels):
        self.labels = self.labels or {}
        for name, value in labels.items():
            self.labels.setdefault(name, set()).add(value)


class Exposition:
    """The metrics of all services, by name."""

    def __init__(self):
        self.metrics = {}
        # Their families, a counter or an info by the name of its series.
        self.families = set()

    def add(self, service, text):
        """Takes over what a service exposes; raises a ValueError if that is no OpenMetrics text."""
        from prometheus_client.openmetrics.parser import text_string_to_metric_families

        for family in text_string_to_metric_families(text):
            self.families.add(family.name + {"counter": "_total", "info": "_info"}.get(family.type, ""))
            for suffix in SUFFIXES.get(family.type, [""]):
                self.metric(service, family.name + suffix)
            for sample in family.samples:
                self.metric(service, sample.name).add({**sample.labels, "job": service, "instance": ""})

    def metric(self, service, name):
        metric = self.metrics.setdefault(name, Metric())
        metric.services.add(service)
        return metric
