#!/usr/bin/env python3
"""Measures the cost of failures for orders that do not fail, on the broker and registry of the environment.

    webhook     calls and orders per second with a webhook that takes 20 ms, undisturbed and failing one call in five
    outage      a webhook that answers every call with 503 for 20 s: dead letters, and the time until work resumes
    registry    a registry that is away for 30 s while an order of an unknown schema arrives, without and with a restart of
                the processor meanwhile: dead letters, and the time until work resumes
    waiting     from making an order to its webhook, at 500 orders a second, without and with one that waits 30 s

BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL name broker and registry. The result is Markdown on standard output.
"""

import argparse
import asyncio
import datetime
import json
import os
import random
import socket
import sys
import threading
import time
import urllib.parse
from pathlib import Path

import confluent_kafka

from bench import LOOK_SECONDS, PARTITIONS, Bench, log_line, say, wait_for_line

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "outsiders"))
import orders as wire  # noqa: E402

REGISTRY_URL = os.environ.get("SCHEMA_REGISTRY_URL")
CALL_SECONDS = 0.02
WARM_UP_SECONDS = 5
WINDOW_SECONDS = 20
OUTAGE_SECONDS = 20
REGISTRY_OUTAGE_SECONDS = 30
REGISTRY_ORDERS = 10_000
WAITING_RATE = 500
WAITING_SECONDS = 30
NEW_FIELD = {"name": "note", "type": "string", "default": ""}


class Webhook:
    """An HTTP server that answers every POST after `delay` seconds with the status from `judge`."""

    def __init__(self, judge=lambda _order: 200, delay=CALL_SECONDS):
        self.judge = judge
        self.delay = delay
        self.answers = []
        self.loop = asyncio.new_event_loop()
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/orders"
        self.loop.run_until_complete(self.loop.create_server(lambda: Connection(self), sock=listener))
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def count(self, since, status=None):
        return sum(at >= since and (status is None or said == status) for at, said, _order in list(self.answers))


class Connection(asyncio.Protocol):
    def __init__(self, webhook):
        self.webhook = webhook
        self.received = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data
        head, separator, rest = self.received.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        if separator and len(rest) >= length:
            self.received = rest[length:]
            order = json.loads(rest[:length])
            self.webhook.loop.call_later(self.webhook.delay, self.answer, order)

    def answer(self, order):
        status = self.webhook.judge(order)
        self.webhook.answers.append((time.time(), status, order))
        self.transport.write(f"HTTP/1.1 {status} -\r\ncontent-length: 0\r\n\r\n".encode())


class Gate:
    """A proxy to the registry that can be shut."""

    def __init__(self, url):
        target = urllib.parse.urlsplit(url)
        self.target = target.hostname, target.port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = target._replace(netloc=f"127.0.0.1:{self.listener.getsockname()[1]}").geturl()
        self.is_open = True
        self.open_sockets = set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _address = self.listener.accept()
            if not self.is_open:
                client.close()
                continue
            server = socket.create_connection(self.target)
            self.open_sockets |= {client, server}
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=pair, daemon=True).start()

    def pump(self, source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def shut(self):
        self.is_open = False
        for end in self.open_sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open_sockets.clear()


def fails(share):
    """Returns a judge that answers that share of the calls with 503, the same ones in every run."""
    draw = random.Random(1)
    return lambda _order: 503 if draw.random() < share else 200


class Failures(Bench):
    def fill(self, topic, count):
        self.service("order-generator", topic, ORDER_COUNT=str(count), ORDER_RATE="0").wait()

    def processor_of(self, topic, **environment):
        settings = {"CONSUMER_GROUP_ID": topic, "ORDERS_DLQ_TOPIC": f"{topic}-dlq", **environment}
        process = self.service("order-processor", topic, **settings)
        wait_for_line(process, "partitions assigned")
        return process

    def end(self, process):
        """Stops a processor; returns how many dead letters it has written."""
        process.terminate()
        _usage, output = process.wait()
        return log_line(output, "final statistics of this replica")[0]["dead_lettered"]

    def webhook_rates(self, share):
        """Returns calls and orders per second with a webhook that fails this share of its calls."""
        topic = f"{self.topic}-webhook-{int(share * 100)}"
        webhook = Webhook(fails(share))
        self.fill(topic, 300_000)
        process = self.processor_of(topic, HANDLER_URL=webhook.url, DRAIN_TIMEOUT_MS="1000")
        time.sleep(WARM_UP_SECONDS)
        since = time.time()
        time.sleep(WINDOW_SECONDS)
        calls, done = webhook.count(since), webhook.count(since, 200)
        self.end(process)
        return calls / WINDOW_SECONDS, done / WINDOW_SECONDS

    def outage(self):
        """Returns the dead letters of an outage, the calls made during it, and the seconds until an order is done again."""
        topic = f"{self.topic}-outage"
        is_down = threading.Event()
        webhook = Webhook(lambda _order: 503 if is_down.is_set() else 200)
        self.fill(topic, 300_000)
        process = self.processor_of(topic, HANDLER_URL=webhook.url, DRAIN_TIMEOUT_MS="1000")
        time.sleep(WARM_UP_SECONDS)
        since = time.time()
        is_down.set()
        time.sleep(OUTAGE_SECONDS)
        is_down.clear()
        back_at = time.time()
        while not webhook.count(back_at, 200):
            time.sleep(LOOK_SECONDS)
        resumed = next(at for at, status, _order in webhook.answers if at >= back_at and status == 200)
        time.sleep(WARM_UP_SECONDS)
        rate = webhook.count(resumed, 200) / (time.time() - resumed)
        return self.end(process), webhook.count(since, 503), resumed - back_at, rate

    def registry(self, restarts):
        """Returns the dead letters, and the seconds until the first order is done again, of a registry that is away."""
        topic = f"{self.topic}-registry-{'restart' if restarts else 'stay'}"
        gate = Gate(REGISTRY_URL)
        self.fill(topic, REGISTRY_ORDERS // 2)
        process = self.processor_of(topic, SCHEMA_REGISTRY_URL=gate.url)
        committed = self.committed_of(topic)
        self.until(lambda: committed() >= REGISTRY_ORDERS // 2, process)
        schema = {**wire.SCHEMA, "fields": [*wire.SCHEMA["fields"], NEW_FIELD]}
        schema_id = wire.register(REGISTRY_URL, f"{topic}-value", schema)
        gate.shut()
        if restarts:
            process.child.kill()
            process.child.wait()
            process = self.service(
                "order-processor", topic, CONSUMER_GROUP_ID=topic, ORDERS_DLQ_TOPIC=f"{topic}-dlq", SCHEMA_REGISTRY_URL=gate.url
            )
        self.write(topic, schema, schema_id, REGISTRY_ORDERS // 2)
        time.sleep(REGISTRY_OUTAGE_SECONDS)
        before = committed()
        gate.is_open = True
        back_at = time.time()
        self.until(lambda: committed() > before, process)
        resumed = time.time() - back_at
        self.until(lambda: committed() >= REGISTRY_ORDERS, process)
        ended = time.time() - back_at
        return self.end(process), resumed, ended

    def write(self, topic, schema, schema_id, count):
        producer = confluent_kafka.Producer({"bootstrap.servers": self.servers})
        for number in range(count):
            order = {"orderId": f"n{number}", "product": "Item1", "price": 10.0, "note": "new"}
            value = wire.encode_as("confluent", order, schema=schema, schema_id=schema_id)
            producer.produce(topic, key=order["orderId"], value=value)
            producer.poll(0)
        producer.flush(60)

    def committed_of(self, topic):
        partitions = [confluent_kafka.TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        observer = confluent_kafka.Consumer({"bootstrap.servers": self.servers, "group.id": topic})
        return lambda: sum(max(0, place.offset) for place in observer.committed(partitions, timeout=30))

    def until(self, is_so, process):
        while not is_so():
            if process.child.poll() is not None:
                raise SystemExit(f"failures.py: the processor has ended:\n{process.output()[-4000:]}")
            time.sleep(LOOK_SECONDS)

    def waiting(self, has_waiting):
        """Returns the seconds from making an order to its first call, sorted, beside one that waits or not."""
        topic = f"{self.topic}-waiting-{has_waiting}"
        first = []

        def judge(order):
            if not first:
                first.append(order["orderId"])
            return 503 if has_waiting and order["orderId"] == first[0] and order["attempt"] == 1 else 200

        webhook = Webhook(judge, delay=0)
        process = self.processor_of(topic, HANDLER_URL=webhook.url, RETRY_BACKOFF_SECONDS=str(WAITING_SECONDS))
        count = WAITING_RATE * (WAITING_SECONDS - 5)
        self.service("order-generator", topic, ORDER_COUNT=str(count), ORDER_RATE=str(WAITING_RATE)).wait()
        self.until(lambda: webhook.count(0, 200) >= count, process)
        self.end(process)
        calls = [(at, order) for at, _status, order in webhook.answers if order["attempt"] == 1]
        made = lambda order: datetime.datetime.fromisoformat(order["timestamp"].replace("Z", "+00:00")).timestamp()
        return sorted(at - made(order) for at, order in calls[WAITING_RATE:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target-dir", type=Path, required=True, help="cargo's target folder with the release binaries")
    given = parser.parse_args()
    bench = Failures(0, given.target_dir.resolve())

    say("a webhook that fails one call in five")
    (calls, done), (calls_with, done_with) = bench.webhook_rates(0), bench.webhook_rates(0.2)
    print(
        f"- Webhook of {CALL_SECONDS * 1000:.0f} ms, one call in five answered 503: {calls_with:,.0f} calls/s "
        f"({calls_with / calls:.0%} of {calls:,.0f} undisturbed), {done_with:,.0f} orders/s ({done_with / done:.0%})."
    )
    say("a webhook that is out of order")
    letters, calls, resumed, rate = bench.outage()
    print(
        f"- Webhook at 503 for {OUTAGE_SECONDS} s: {letters} dead letters, {calls} calls made meanwhile; the first order "
        f"{resumed:.1f} s after its return, then {rate:,.0f} orders/s."
    )
    for restarts in (False, True):
        say(f"a registry that is away, restart: {restarts}")
        letters, resumed, ended = bench.registry(restarts)
        print(
            f"- Registry away for {REGISTRY_OUTAGE_SECONDS} s{', processor killed and started meanwhile' if restarts else ''}: "
            f"{letters} dead letters; goes on {resumed:.1f} s after its return, all of {REGISTRY_ORDERS:,} orders committed "
            f"after {ended:.1f} s."
        )
    for has_waiting in (False, True):
        say(f"one order that waits: {has_waiting}")
        latencies = bench.waiting(has_waiting)
        half, most, worst = (1000 * latencies[int((len(latencies) - 1) * share)] for share in (0.5, 0.99, 1))
        print(
            f"- {WAITING_RATE} orders/s, {'one waits ' + str(WAITING_SECONDS) + ' s' if has_waiting else 'none waits'}: made to "
            f"webhook median {half:.1f} ms, 99 % {most:.1f} ms, slowest {worst:.1f} ms."
        )


if __name__ == "__main__":
    main()
