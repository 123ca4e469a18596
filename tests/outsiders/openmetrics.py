#!/usr/bin/env python3
"""Reads the metrics at a URL with Prometheus's own parser of OpenMetrics, which is strict, and prints each family's type."""

import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families


def main():
    with urllib.request.urlopen(sys.argv[1], timeout=10) as answer:
        content_type = answer.headers["content-type"]
        text = answer.read().decode()
    if not content_type.startswith("application/openmetrics-text; version=1.0.0"):
        raise SystemExit(f"openmetrics.py: the content type is {content_type}")
    for family in text_string_to_metric_families(text):
        if not family.documentation:
            raise SystemExit(f"openmetrics.py: {family.name} has no help")
        print(family.name, family.type)


main()
