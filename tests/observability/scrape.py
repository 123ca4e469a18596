#!/usr/bin/env python3
"""Runs generator, processor and dashboard on a broker, and saves what they expose on /metrics for `check.py`.

    kafka.py run scrape.py --binaries target/debug --out FOLDER

makes FOLDER/generator.txt, processor.txt and dashboard.txt. BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL say where; topics
and group have names of their own. Many series exist only after trouble, so there is trouble: bad records, failing
orders, and a dead-letter limit that soon pauses partitions. It ends when everything is exposed that rules and dashboard ask for,
or, if that does not come, after a deadline; `check.py` says then what is missing.
"""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import check
from exposition import Exposition, read

DEADLINE_SECONDS = 60
POLL_SECONDS = 0.5
STOP_SECONDS = 20
LOG_LINES = 20
COMMANDS = {
    "generator": ["order-generator"],
    "processor": ["order-processor"],
    "dashboard": ["order-console", "dashboard"],
}


def settings():
    """Returns settings that make something of everything."""
    name = f"observability-{uuid.uuid4().hex[:8]}"
    return {
        "ORDERS_TOPIC": name,
        "ORDERS_DLQ_TOPIC": f"{name}-dlq",
        "CONTROL_TOPIC": f"{name}-control",
        "CONSUMER_GROUP_ID": name,
        "REPLICATION_FACTOR": "1",
        "ORDER_RATE": "200",
        "CORRUPT_RATE": "0.3",
        "ERROR_SIMULATION_RATE": "0.2",
        "RETRY_BACKOFF_SECONDS": "0.1",
        "DLQ_GUARD": "4",
        "RUST_LOG": "info",
    }


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Service:
    """A service as a process, which is stopped when its block ends."""

    def __init__(self, name, binaries, out, given):
        self.name = name
        self.log = out / f"{name}.log"
        address = free_address()
        self.url = f"http://{address}/metrics"
        binary, *arguments = COMMANDS[name]
        environment = {**os.environ, **given, "HTTP_ADDR": address, "DASHBOARD_ADDR": free_address()}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([binaries / binary, *arguments], env=environment, stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def metrics(self):
        """Returns what the service exposes, or None while it does not answer."""
        if self.process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])
            sys.exit(f"scrape.py: the {self.name} ended with exit code {self.process.returncode}:\n{tail}")
        try:
            return read(self.url)
        except OSError:
            return None


def is_missing(texts):
    """Returns what is asked for and not exposed yet."""
    if None in texts.values():
        return [f"/metrics of the {name}" for name, text in texts.items() if text is None]
    exposition = Exposition()
    for name, text in texts.items():
        exposition.add(name, text)
    return list(check.questions(exposition))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", type=Path, required=True, help="the folder of the two binaries")
    parser.add_argument("--out", type=Path, required=True, help="where the texts and the services' logs are put")
    given = parser.parse_args()
    binaries, out = given.binaries.resolve(), given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    check.prepare()
    common = settings()
    with contextlib.ExitStack() as stack:
        services = [stack.enter_context(Service(name, binaries, out, common)) for name in COMMANDS]
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            texts = {service.name: service.metrics() for service in services}
            missing = is_missing(texts)
            if not missing or time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
    for name, text in texts.items():
        (out / f"{name}.txt").write_text(text or "")
    if missing:
        print(f"scrape.py: after {DEADLINE_SECONDS} s not there: {'; '.join(missing)}", file=sys.stderr)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
