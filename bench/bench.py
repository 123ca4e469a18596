#!/usr/bin/env python3
"""Measures both services and the peers of the processor on the broker that BOOTSTRAP_SERVERS names.

The generator writes ORDERS orders (10 million unless set) with its headers, uncompressed, to 3 partitions. Then the readers
take turns. Each reads all orders RUNS times (5), each time as a new consumer group:

    order-processor         decodes, adds up exactly, checkpoints; with --image-binary, the image's static one as well
    ConsumerPerformance     Kafka's own tool: counts bytes, decodes nothing, commits every 5 s
    rdkafka + apache-avro   decodes, adds up, commits (peers/rdkafka)
    confluent + fastavro    decodes, adds up, commits, in batches (peers/confluent_fastavro.py)

The last two use librdkafka and run twice: with its defaults, where librdkafka stops fetching for a second whenever its
queue is full, and tuned with fetch.queue.backoff.ms=10.

A reader's rate is the orders over the time from the assignment of its partitions to the commit of the last order
(ConsumerPerformance: its own figure without the rebalance). CPU seconds (user and system) and peak resident memory
are those of the whole process.

Latency is measured at 1,000 orders a second, from the record's timestamp, which the generator sets when it makes the order,
to the processor's log line about it. Only the first few orders of each second have a line. At the same rate the benchmark
kills one of two replicas, and measures when the other one has its partitions. The result is Markdown on standard output;
progress goes to standard error.
"""

import argparse
import datetime
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import confluent_kafka

ROOT = Path(__file__).resolve().parent.parent
KAFKA = ROOT / "tests" / "kafka" / "kafka.py"
PARTITIONS = 3
LOOK_SECONDS = 0.02
DEADLINE_SECONDS = 1800
IDLE_SECONDS = 10
COORDINATOR_IS_COMING = (
    confluent_kafka.KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    confluent_kafka.KafkaError.COORDINATOR_NOT_AVAILABLE,
    confluent_kafka.KafkaError.NOT_COORDINATOR,
)
TUNING = ["fetch.queue.backoff.ms=10"]
LATENCY_RATE = 1_000
LATENCY_WARM_UP_SECONDS = 10
LATENCY_SECONDS = 60


def say(text):
    print(f"bench.py: {text}", file=sys.stderr, flush=True)


@dataclass
class Usage:
    """Usage of a process: CPU seconds, and peak resident memory in MiB."""

    cpu_seconds: float
    rss_mib: float


@dataclass
class Reading:
    """One run of one program: orders per second, CPU seconds per million orders, peak resident memory in MiB."""

    rate: float
    cpu_per_million: float
    rss_mib: float


class Process:
    """A child process whose output goes to a file."""

    def __init__(self, command, environment=None):
        self.name = Path(str(command[0])).name
        self.log = tempfile.NamedTemporaryFile(prefix=f"{self.name}-", suffix=".log")
        self.child = subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )

    def output(self):
        return Path(self.log.name).read_text(errors="replace")

    def wait(self):
        """Waits for the end and returns usage and output; a failure ends the benchmark."""
        _pid, status, used = os.wait4(self.child.pid, 0)
        self.child.returncode = os.waitstatus_to_exitcode(status)
        if self.child.returncode != 0:
            raise SystemExit(f"bench.py: {self.name} ended with code {self.child.returncode}:\n{self.output()[-4000:]}")
        rss_bytes = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Usage(used.ru_utime + used.ru_stime, rss_bytes / 2**20), self.output()

    def terminate(self):
        self.child.send_signal(signal.SIGTERM)

    def resident_mib(self):
        """Returns the resident memory, if the system reports it."""
        try:
            status = Path(f"/proc/{self.child.pid}/status").read_text()
        except OSError:
            return None
        return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE).group(1)) / 1024


def log_lines(text, message):
    """Yields the fields and the time of every log line with `message`."""
    for line in text.splitlines():
        if message in line and line.startswith("{"):
            fields = json.loads(line)
            if fields["message"] == message:
                logged_at = datetime.datetime.fromisoformat(fields["timestamp"].replace("Z", "+00:00"))
                yield fields, logged_at.timestamp()


def log_line(text, message):
    """Returns the fields and the time of the first log line with `message`, or None."""
    return next(log_lines(text, message), None)


class Bench:
    def __init__(self, orders, target, image_binary=None):
        self.orders = orders
        self.target = target
        self.image_binary = image_binary
        self.servers = os.environ["BOOTSTRAP_SERVERS"]
        self.topic = f"bench-{uuid.uuid4().hex[:8]}"

    def service(self, binary, topic=None, path=None, **environment):
        """Starts a service with a JSON log; `path` names another build of it."""
        shared = {
            "ORDERS_TOPIC": topic or self.topic,
            "ORDERS_DLQ_TOPIC": f"{self.topic}-dlq",
            "TOPIC_PARTITIONS": str(PARTITIONS),
            "HTTP_ADDR": "off",
            "LOG_FORMAT": "json",
        }
        return Process([path or self.target / "release" / binary], {**shared, **environment})

    def reading(self, rate, usage):
        return Reading(rate, usage.cpu_seconds / (self.orders / 1e6), usage.rss_mib)

    def generate(self):
        usage, output = self.service("order-generator", ORDER_COUNT=str(self.orders), ORDER_RATE="0", SEED="1").wait()
        fields, _logged_at = log_line(output, "final statistics")
        if int(fields["acknowledged"]) != self.orders:
            raise SystemExit(f"bench.py: the generator ended with {fields}")
        return self.reading(float(fields["orders_per_second"]), usage)

    def committed(self, group):
        """Returns a function that counts the orders of the topic that the group has committed."""
        partitions = [confluent_kafka.TopicPartition(self.topic, partition) for partition in range(PARTITIONS)]
        observer = confluent_kafka.Consumer({"bootstrap.servers": self.servers, "group.id": group})

        def committed():
            try:
                return sum(max(0, place.offset) for place in observer.committed(partitions, timeout=30))
            except confluent_kafka.KafkaException as exception:
                # A new group has no coordinator for a moment.
                if exception.args[0].code() in COORDINATOR_IS_COMING:
                    return 0
                raise

        return committed

    def processor(self, group, path=None):
        process = self.service("order-processor", path=path, CONSUMER_GROUP_ID=group)
        committed = self.committed(group)
        deadline = time.time() + DEADLINE_SECONDS
        while committed() < self.orders:
            if process.child.poll() is not None or time.time() > deadline:
                raise SystemExit(f"bench.py: the processor did not reach the end:\n{process.output()[-4000:]}")
            time.sleep(LOOK_SECONDS)
        finished_at = time.time()
        process.terminate()
        usage, output = process.wait()
        _fields, assigned_at = log_line(output, "partitions assigned")
        return self.reading(self.orders / (finished_at - assigned_at), usage)

    def consumer_performance(self, group):
        tool = [KAFKA, "tool", "org.apache.kafka.tools.ConsumerPerformance", "--bootstrap-server", self.servers]
        run = ["--topic", self.topic, "--group", group, "--num-records", self.orders, "--timeout", 60_000]
        usage, output = Process([*tool, *run, "--hide-header"]).wait()
        # The last column is records per second without the rebalance, the fifth the number of records.
        columns = output.strip().splitlines()[-1].split(", ")
        if int(columns[4]) < self.orders:
            raise SystemExit(f"bench.py: ConsumerPerformance did not reach the end: {columns}")
        return self.reading(float(columns[-1]), usage)

    def peer(self, command, tuning, group):
        usage, output = Process([*command, self.servers, self.topic, group, self.orders, *tuning]).wait()
        return self.reading(self.orders / json.loads(output.strip().splitlines()[-1])["seconds"], usage)

    def readers(self):
        """Returns the readers of the topic by name; each takes a group."""
        rdkafka = [self.target / "peers" / "release" / "rdkafka-peer"]
        fastavro = [sys.executable, ROOT / "bench" / "peers" / "confluent_fastavro.py"]
        image = {"order-processor of the image": lambda group: self.processor(group, self.image_binary)}
        return {
            "order-processor": self.processor,
            **(image if self.image_binary else {}),
            "ConsumerPerformance": self.consumer_performance,
            "rdkafka + apache-avro, tuned": lambda group: self.peer(rdkafka, TUNING, group),
            "rdkafka + apache-avro": lambda group: self.peer(rdkafka, [], group),
            "confluent + fastavro, tuned": lambda group: self.peer(fastavro, TUNING, group),
            "confluent + fastavro": lambda group: self.peer(fastavro, [], group),
        }

    def idle_memory(self):
        """Returns the resident memory of an idle processor in MiB."""
        process = self.service("order-processor", CONSUMER_GROUP_ID=f"{self.topic}-idle", AUTO_OFFSET_RESET="latest")
        wait_for_line(process, "partitions assigned")
        time.sleep(IDLE_SECONDS)
        resident = process.resident_mib()
        process.terminate()
        process.wait()
        return resident

    def latencies(self):
        """Returns the seconds from making an order to processing it, of the orders that the processor logs, sorted."""
        topic = f"{self.topic}-latency"
        processor = self.service("order-processor", topic, CONSUMER_GROUP_ID=topic)
        wait_for_line(processor, "partitions assigned")
        count = LATENCY_RATE * (LATENCY_WARM_UP_SECONDS + LATENCY_SECONDS)
        self.service("order-generator", topic, ORDER_COUNT=str(count), ORDER_RATE=str(LATENCY_RATE)).wait()
        processor.terminate()
        _usage, output = processor.wait()
        made_at = self.timestamps(topic, count)
        warm_at = min(made_at.values()) + LATENCY_WARM_UP_SECONDS
        lines = [((fields["partition"], fields["offset"]), at) for fields, at in log_lines(output, "processed")]
        return sorted(at - made_at[place] for place, at in lines if made_at[place] >= warm_at)

    def first_order(self):
        """Returns the seconds from the start of a processor to its first order."""
        started_at = time.time()
        process = self.service("order-processor", CONSUMER_GROUP_ID=f"{self.topic}-first")
        wait_for_line(process, "processed")
        process.terminate()
        _usage, output = process.wait()
        return log_line(output, "processed")[1] - started_at

    def takeover(self):
        """Returns the seconds from the death of a processor until another one has its partitions."""
        topic = f"{self.topic}-takeover"
        generator = self.service("order-generator", topic, ORDER_RATE=str(LATENCY_RATE))
        survivor, victim = (self.service("order-processor", topic, CONSUMER_GROUP_ID=topic) for _ in range(2))
        for process in (survivor, victim):
            wait_for_line(process, "processed")
        seen = len(survivor.output())
        killed_at = time.time()
        victim.child.kill()
        victim.child.wait()
        wait_for_line(survivor, "partitions assigned", seen)
        _fields, assigned_at = log_line(survivor.output()[seen:], "partitions assigned")
        for process in (generator, survivor):
            process.terminate()
            process.wait()
        return assigned_at - killed_at

    def timestamps(self, topic, count):
        """Returns the time of each record by partition and offset."""
        reader = confluent_kafka.Consumer({"bootstrap.servers": self.servers, "group.id": "-", "auto.offset.reset": "earliest"})
        beginning = confluent_kafka.OFFSET_BEGINNING
        reader.assign([confluent_kafka.TopicPartition(topic, partition, beginning) for partition in range(PARTITIONS)])
        found = {}
        while len(found) < count:
            for message in reader.consume(num_messages=10_000, timeout=0.2):
                found[message.partition(), message.offset()] = message.timestamp()[1] / 1000
        reader.close()
        return found


def wait_for_line(process, message, seen=0):
    deadline = time.time() + DEADLINE_SECONDS
    while log_line(process.output()[seen:], message) is None:
        if process.child.poll() is not None or time.time() > deadline:
            raise SystemExit(f"bench.py: {process.name} did not log {message!r}:\n{process.output()[-4000:]}")
        time.sleep(LOOK_SECONDS)


def median(readings):
    parts = ([getattr(reading, name) for reading in readings] for name in ("rate", "cpu_per_million", "rss_mib"))
    return Reading(*map(statistics.median, parts))


def first_line(command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    except OSError:
        return "unknown"
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else "unknown"


def machine():
    cpu = platform.processor() or platform.machine()
    memory = ""
    if Path("/proc/cpuinfo").exists():
        cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()).group(1)
        kib = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text()).group(1))
        memory = f", {kib / 2**20:.0f} GiB"
    version = first_line(["git", "describe", "--always", "--dirty"])
    return (
        f"{os.cpu_count()} cores of {cpu}{memory}, shared with the broker; {platform.system()} {platform.release()}; "
        f"{first_line(['rustc', '--version'])}; {first_line(['java', '-version'])}; revision {version}"
    )


def report(bench, runs, generator, readings):
    ours = median(readings["order-processor"]).rate
    print(f"{bench.orders:,} orders, {PARTITIONS} partitions, medians of {runs} run(s) in turn.\n")
    print("| reader | orders/s | order-processor is | CPU-s per million | peak RSS, MiB |")
    print("|---|---:|---:|---:|---:|")
    for name, all_runs in readings.items():
        middle = median(all_runs)
        ratio = f"{ours / middle.rate:.1f} ×"
        print(f"| {name} | {middle.rate:,.0f} | {ratio} | {middle.cpu_per_million:.2f} | {middle.rss_mib:.0f} |")
    print(
        f"\norder-generator, one run: {generator.rate:,.0f} orders/s acknowledged by all replicas, "
        f"{generator.cpu_per_million:.2f} CPU-s per million, {generator.rss_mib:.0f} MiB."
    )
    idle_mib = bench.idle_memory()
    if idle_mib is not None:
        print(f"An idle order-processor holds {idle_mib:.0f} MiB.")
    latencies = bench.latencies()
    half, most, worst = (1000 * latencies[int((len(latencies) - 1) * share)] for share in (0.5, 0.99, 1))
    print(
        f"Made to processed at {LATENCY_RATE:,} orders/s, {len(latencies)} samples in {LATENCY_SECONDS} s: "
        f"median {half:.1f} ms, 99 % within {most:.1f} ms, the slowest {worst:.1f} ms."
    )
    print(f"Start to first processed order: {bench.first_order():.2f} s.")
    print(f"A killed replica's partitions are another's after {bench.takeover():.1f} s (session timeout 10 s).")
    print(f"\n{machine()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target-dir", type=Path, required=True, help="cargo's target folder with the release binaries")
    parser.add_argument("--image-binary", type=Path, help="the order-processor of the image, to be measured as well")
    parser.add_argument("--orders", type=int, default=int(os.environ.get("ORDERS") or 10_000_000))
    parser.add_argument("--runs", type=int, default=int(os.environ.get("RUNS") or 5))
    given = parser.parse_args()
    bench = Bench(given.orders, given.target_dir.resolve(), given.image_binary)
    say(f"writing {given.orders:,} orders to {bench.topic}")
    generator = bench.generate()
    say(f"order-generator: {generator}")
    readers = bench.readers()
    readings = {name: [] for name in readers}
    for run in range(given.runs):
        for name, read in readers.items():
            reading = read(f"{bench.topic}-{uuid.uuid4().hex[:8]}")
            say(f"run {run + 1}, {name}: {reading}")
            readings[name].append(reading)
    report(bench, given.runs, generator, readings)


if __name__ == "__main__":
    main()
