#!/usr/bin/env python3
"""Writes orders with librdkafka, as another team's producer would: in its wire format, under its name of the record, with
its keys; compressed, in transactions, committed or aborted.

    producer.py --topic TOPIC [--codec zstd] [--format bare] [--record order.OrderRecord] [--keys none] [--product TEXT] STEP...

A step is `plain:N` (N orders outside transactions), `commit:N` or `abort:N` (N orders in a transaction that ends so), or
`hold:N` (N orders in a transaction that stays open until this program gets SIGTERM, and is then committed; the steps
after it go on meanwhile). At the end one JSON object tells how many orders a read_committed consumer sees, and their sum
in millionths. BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL say where.
"""

import argparse
import json
import os
import random
import signal
import struct

import confluent_kafka

import orders

DEADLINE_SECONDS = 60


class OrderSource:
    """Random orders, the same in every run."""

    def __init__(self, given):
        self.given = given
        self.schema = orders.named(given.record) if given.record else orders.SCHEMA
        self.schema_id = None
        if given.format == "confluent":
            subject = f"{given.topic}-value"
            self.schema_id = orders.register(os.environ["SCHEMA_REGISTRY_URL"], subject, self.schema)
        self.random = random.Random(1)

    def next(self):
        """Returns an order's key, its value and its price in millionths."""
        order_id = str(self.random.getrandbits(64))
        (price,) = struct.unpack("<f", struct.pack("<f", self.random.uniform(9.99, 999.99)))
        order = {"orderId": order_id, "product": self.given.product or f"Item{self.random.randint(1, 9)}", "price": price}
        value = orders.encode_as(self.given.format, order, self.schema, self.schema_id)
        key = order_id.encode() if self.given.keys == "order-id" else None
        return key, value, orders.micro_units(price)


class Writer:
    def __init__(self, given, source):
        self.given = given
        self.source = source
        self.seen = self.sum_micros = 0

    def producer(self, transactional_id=None):
        config = {
            "bootstrap.servers": os.environ["BOOTSTRAP_SERVERS"],
            "compression.type": self.given.codec,
            "partitioner": "murmur2_random",
            # Small batches, so that a transaction is many of them and its marker can come in a later fetch.
            "batch.num.messages": 50,
            "linger.ms": 5,
        }
        if transactional_id:
            config["transactional.id"] = f"{self.given.topic}-{transactional_id}"
        producer = confluent_kafka.Producer(config)
        if transactional_id:
            producer.init_transactions(DEADLINE_SECONDS)
        return producer

    def write(self, producer, count, is_seen=True):
        """Writes `count` orders and waits for the broker to have them."""
        failures = []
        for _ in range(count):
            key, value, micros = self.source.next()
            report = lambda error, _message: failures.append(error) if error else None
            while True:
                try:
                    producer.produce(self.given.topic, key=key, value=value, on_delivery=report)
                    break
                except BufferError:
                    producer.poll(1)
            if is_seen:
                self.seen += 1
                self.sum_micros += micros
        if producer.flush(DEADLINE_SECONDS) or failures:
            raise SystemExit(f"producer.py: not delivered: {failures[:3]}")

    def run(self, step, number):
        kind, count = step.split(":")
        if kind == "plain":
            self.write(self.producer(), int(count))
            return None
        producer = self.producer(f"{number}-{kind}")
        producer.begin_transaction()
        self.write(producer, int(count), is_seen=kind != "abort")
        if kind == "hold":
            return producer
        if kind == "commit":
            producer.commit_transaction(DEADLINE_SECONDS)
        elif kind == "abort":
            producer.abort_transaction(DEADLINE_SECONDS)
        else:
            raise SystemExit(f"producer.py: no such step: {step}")
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--codec", default="none")
    parser.add_argument("--format", default="confluent", choices=["confluent", "bare", "container", "single-object"])
    parser.add_argument("--record", help="the record's full name, the order's own unless given")
    parser.add_argument("--keys", default="order-id", choices=["order-id", "none"])
    parser.add_argument("--product", help="the product of every order")
    parser.add_argument("steps", nargs="+")
    given = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    writer = Writer(given, OrderSource(given))
    held = [writer.run(step, number) for number, step in enumerate(given.steps)]
    held = [producer for producer in held if producer]
    if held:
        print(json.dumps({"event": "held"}), flush=True)
        signal.sigwait([signal.SIGTERM])
        for producer in held:
            producer.commit_transaction(DEADLINE_SECONDS)
    print(json.dumps({"event": "done", "orders": writer.seen, "sum_micros": writer.sum_micros}), flush=True)


if __name__ == "__main__":
    main()
