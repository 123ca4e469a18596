#!/usr/bin/env python3
"""Says what a group of order processors must have counted, from the topics alone and with none of the product's code.

    oracle.py verdict --orders TOPIC --dead-letters TOPIC --simulation-rate 0.1 --max-retries 3
    oracle.py sequence --orders TOPIC --first 1001 --count 1000
    oracle.py self-check

`verdict` reads the topic of orders from its beginning to its end as a read_committed consumer does (librdkafka), decodes
the orders (fastavro), and tells which of them the failure simulation lets fail for good. It reads the dead-letter topic in
the same way, removing repeats by the coordinates of the failed record. One JSON object on standard output:

    records                 how many the topic of orders holds
    misplaced               how many of them Kafka's default partitioner would have put elsewhere by their keys
    orders, sum_micros, min, max, retries
                            what the processors must show; sum_micros is the exact sum in millionths
    recent_average_min, recent_average_max
                            between which the average of the hundred latest orders must be: orders of one millisecond may
                            be taken in any order
    expected_dead, poison   how many records must be dead letters, and how many of them are no readable order
    dead_letters, dead_letter_repeats
                            what the dead-letter topic holds
    missing_dead, unexpected_dead
                            the differences by coordinates, "partition:offset", empty when all is well
    wrong_dead              those that name another `dlq.error.type` than is true (for processors with their default
                            settings), or do not hold their record's key, value and headers
    dead_letter_types       how many dead letters there are of each `dlq.error.type`
    dead_order_ids_digest   SHA-256 over the sorted order ids of the dead letters: equal for equal sets

`sequence` reads the topic of a generator that numbers its orders: each number from `first` on has to be there once, and
rise from record to record of a partition. One JSON object on standard output:

    records                 what the topic holds
    lost, twice, foreign    how many numbers are missing, how many records repeat one, and how many have none of them
    disordered              how many records follow a higher number in their partition
    examples                some of the numbers of each of these four

BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL say where.
"""

import argparse
import collections
import hashlib
import json
import math
import os
import random
import struct
import sys
import time
from fractions import Fraction

import confluent_kafka

import orders as avro_orders

READ_DEADLINE_SECONDS = 60
RECENT_PRICES = 100


def read_topic(bootstrap_servers, topic):
    """Yields every record that a read_committed consumer sees in `topic`, in the order of each partition."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"oracle-{os.getpid()}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        }
    )
    partitions = partitions_of(consumer, topic)
    beginning = confluent_kafka.OFFSET_BEGINNING
    consumer.assign([confluent_kafka.TopicPartition(topic, partition, beginning) for partition in partitions])
    unfinished = set(partitions)
    last_answer = time.monotonic()
    while unfinished:
        messages = consumer.consume(num_messages=10_000, timeout=0.2)
        if messages:
            last_answer = time.monotonic()
        elif time.monotonic() - last_answer > READ_DEADLINE_SECONDS:
            raise SystemExit(f"oracle.py: {topic}: no answer within {READ_DEADLINE_SECONDS} s")
        for message in messages:
            if message.error() is None:
                yield message
            elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                unfinished.discard(message.partition())
            else:
                raise SystemExit(f"oracle.py: {topic}: {message.error().str()}")
    consumer.close()


def partitions_of(client, topic):
    metadata = client.list_topics(topic, timeout=30).topics[topic]
    if metadata.error is not None:
        raise SystemExit(f"oracle.py: {topic}: {metadata.error.str()}")
    return list(metadata.partitions)


class Simulation:
    """The failure simulation: which orders fail, how, and how often, follows from the order id alone."""

    def __init__(self, rate, retries_max):
        self.rate = rate
        self.retries_max = retries_max

    def outcome(self, order_id):
        """Returns the `dlq.error.type` of an order that ends as a dead letter, else None, and how often it is retried."""
        hash_ = avro_orders.murmur2(order_id.encode()) & 0x7FFFFFFF
        share = hash_ / 2**31
        if share < self.rate / 2:
            return "simulated", 0
        if share < self.rate:
            failures = 1 + (hash_ >> 8) % (self.retries_max + 1)
            dead_of = "retries-exhausted" if failures > self.retries_max else None
            return dead_of, min(failures, self.retries_max)
        return None, 0


class Expectation:
    """What the processors must have counted after the records that were added."""

    def __init__(self, decoder, simulation, partition_count):
        self.decoder = decoder
        self.simulation = simulation
        self.partition_count = partition_count
        self.records = self.misplaced = self.orders = self.poison = self.retries = self.sum_micros = 0
        self.min, self.max = math.inf, -math.inf
        self.processed = []
        self.dead = {}

    def add(self, message):
        self.records += 1
        if message.key() is not None:
            home = avro_orders.partition_of(message.key(), self.partition_count)
            self.misplaced += message.partition() != home
        order, poison = self.decoder.decode(message.value())
        place = f"{message.partition()}:{message.offset()}"
        if poison:
            self.poison += 1
            self.dead[place] = None, letter_of(message, poison)
            return
        dead_of, retries = self.simulation.outcome(order["orderId"])
        self.retries += retries
        if dead_of:
            self.dead[place] = order["orderId"], letter_of(message, dead_of)
        else:
            self.add_processed(message.timestamp()[1], order["price"])

    def add_processed(self, timestamp, price):
        self.orders += 1
        self.sum_micros += avro_orders.micro_units(price)
        self.min, self.max = min(self.min, price), max(self.max, price)
        self.processed.append((timestamp, price))

    def recent_average(self, of_equal_times):
        """Returns the average of the latest prices; the sign says which of equal times count as later."""
        latest = sorted(self.processed, key=lambda sale: (sale[0], of_equal_times * sale[1]))[-RECENT_PRICES:]
        return sum(price for _timestamp, price in latest) / len(latest) if latest else None

    def verdict(self):
        return {
            "records": self.records,
            "misplaced": self.misplaced,
            "orders": self.orders,
            "sum_micros": self.sum_micros,
            "min": self.min if self.orders else None,
            "max": self.max if self.orders else None,
            "recent_average_min": self.recent_average(of_equal_times=-1),
            "recent_average_max": self.recent_average(of_equal_times=1),
            "retries": self.retries,
            "expected_dead": len(self.dead),
            "poison": self.poison,
        }


def letter_of(message, error_type):
    """Returns what a dead letter must hold: its type, and key, value and headers of its record."""
    return error_type, message.key(), message.value(), dict(message.headers() or [])


def is_told_by(expected, letter):
    *others, headers = expected
    *letters_others, letters_headers = letter
    return others == letters_others and headers.items() <= letters_headers.items()


def dead_letters(messages):
    """Returns the dead letters by the coordinates of the failed record, and the number of repeats."""
    found, repeats = {}, 0
    for message in messages:
        headers = dict(message.headers() or [])
        place = f"{headers['original_partition'].decode()}:{headers['original_offset'].decode()}"
        repeats += place in found
        found.setdefault(place, []).append(letter_of(message, headers["dlq.error.type"].decode()))
    return found, repeats


def verdict(given):
    bootstrap_servers = os.environ["BOOTSTRAP_SERVERS"]
    decoder = avro_orders.Decoder(os.environ["SCHEMA_REGISTRY_URL"])
    simulation = Simulation(given.simulation_rate, given.max_retries)
    admin = confluent_kafka.Producer({"bootstrap.servers": bootstrap_servers})
    expectation = Expectation(decoder, simulation, len(partitions_of(admin, given.orders)))
    for message in read_topic(bootstrap_servers, given.orders):
        expectation.add(message)
    found, repeats = dead_letters(read_topic(bootstrap_servers, given.dead_letters))
    dead = expectation.dead
    order_ids = sorted(order_id for place, (order_id, _letter) in dead.items() if order_id and place in found)
    wrong = [
        place
        for place, (_order_id, expected) in dead.items()
        if not all(is_told_by(expected, letter) for letter in found.get(place, []))
    ]
    return {
        **expectation.verdict(),
        "dead_letters": len(found),
        "dead_letter_repeats": repeats,
        "missing_dead": sorted(dead.keys() - found.keys()),
        "unexpected_dead": sorted(found.keys() - dead.keys()),
        "wrong_dead": sorted(wrong),
        "dead_letter_types": collections.Counter(letters[0][0] for letters in found.values()),
        "dead_order_ids_digest": hashlib.sha256("\n".join(order_ids).encode()).hexdigest(),
    }


class Sequence:
    """Compares the numbers of records with those that have to be there."""

    EXAMPLES = 10

    def __init__(self, first, count):
        self.first = first
        self.seen = bytearray(count)
        self.highest = {}
        self.records = 0
        self.counts = dict.fromkeys(("lost", "twice", "foreign", "disordered"), 0)
        self.examples = {name: [] for name in self.counts}

    def note(self, name, what):
        self.counts[name] += 1
        if self.counts[name] <= self.EXAMPLES:
            self.examples[name].append(what)

    def add(self, partition, key):
        self.records += 1
        number = int(key) if key and key.isdigit() else -1
        index = number - self.first
        if not 0 <= index < len(self.seen):
            self.note("foreign", repr(key))
        elif self.seen[index]:
            self.note("twice", number)
        else:
            self.seen[index] = 1
            if number < self.highest.get(partition, number):
                self.note("disordered", number)
            self.highest[partition] = max(number, self.highest.get(partition, number))

    def result(self):
        for index, is_seen in enumerate(self.seen):
            if not is_seen:
                self.note("lost", self.first + index)
        return {"records": self.records, **self.counts, "examples": self.examples}


def sequence(given):
    numbers = Sequence(given.first, given.count)
    for message in read_topic(os.environ["BOOTSTRAP_SERVERS"], given.orders):
        numbers.add(message.partition(), message.key())
    return numbers.result()


def check(name, found, expected):
    if found != expected:
        raise SystemExit(f"oracle.py: self-check: {name}: {found!r} instead of {expected!r}")


class FakeMessage:
    def __init__(self, offset, value, note=b""):
        self.fields = offset, value, [("note", note)]

    def partition(self):
        return 0

    def offset(self):
        return self.fields[0]

    def key(self):
        return b"foobar"

    def value(self):
        return self.fields[1]

    def headers(self):
        return self.fields[2]

    def timestamp(self):
        return 1, 1_700_000_000_000


def self_check():
    """Holds the oracle's own arithmetic against values that come from elsewhere."""
    # The vectors of Kafka's own unit test of its hash.
    for text, expected in (("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536)):
        check(f"murmur2 of {text}", avro_orders.murmur2(text.encode()), expected & 0xFFFFFFFF)
    source = random.Random(1)
    for _ in range(10_000):
        (price,) = struct.unpack("<f", struct.pack("<f", source.uniform(0, 10 ** source.randint(-7, 12))))
        check(f"millionths of {price}", avro_orders.micro_units(price), round(Fraction(price) * 1_000_000))
    # 0.1 as a 32-bit float is 0.100000001490116…; 2^-7 is 7812.5 millionths and halves go to the even neighbour.
    check("millionths of 2^-7", avro_orders.micro_units(2.0**-7), 7812)

    decoder = avro_orders.Decoder("unused")
    decoder.writer_schemas[7] = avro_orders.PARSED_SCHEMA
    decoder.writer_schemas[8] = None
    good = avro_orders.encode(7, "1001", "Item1", 12.5)
    for value, expected in (
        (good, None),
        (None, "tombstone"),
        (avro_orders.encode(7, "1001", "x" * 65_536, 12.5), "oversize"),
        (b"\x01" + good[1:], "unknown-format"),
        (b"", "unknown-format"),
        (good[:4], "truncated"),
        (good[: len(good) // 2], "truncated"),
        (good[:-1], "truncated"),
        (avro_orders.encode(8, "1001", "Item1", 12.5), "unknown-schema"),
        (good + b"!", "trailing-bytes"),
        (avro_orders.encode(7, "1001", "Item1", -1.0), "invalid-price"),
        (avro_orders.encode(7, "1001", "Item1", math.nan), "invalid-price"),
    ):
        check(f"poison of {value and value[:99]}", decoder.decode(value)[1], expected)
    told, other = letter_of(FakeMessage(0, good), "x"), letter_of(FakeMessage(0, good, b"2"), "x")
    check("the same letter", is_told_by(told, told), True)
    check("another letter", is_told_by(told, other), False)

    everything_fails, nothing_fails = Simulation(2.0, 3), Simulation(0.0, 3)
    values = [avro_orders.encode(7, "1001", "Item1", 12.5), avro_orders.encode(7, "1002", "Item2", 2.5)]
    for simulation, orders, sum_micros, dead in ((nothing_fails, 2, 15_000_000, 1), (everything_fails, 0, 0, 3)):
        # "foobar" belongs on partition 2 of 4, and these records lie on partition 0.
        expectation = Expectation(decoder, simulation, 4)
        for offset, value in enumerate(values + [b"\x00\x00"]):
            expectation.add(FakeMessage(offset, value))
        told = expectation.verdict()
        names = ("records", "misplaced", "orders", "sum_micros", "expected_dead", "poison")
        check("verdict", tuple(told[name] for name in names), (3, 3, orders, sum_micros, dead, 1))

    numbers = Sequence(1, 6)
    for partition, key in ((0, b"1"), (1, b"2"), (0, b"4"), (0, b"3"), (1, b"2"), (1, b"7"), (1, b"x"), (1, None), (0, b"5")):
        numbers.add(partition, key)
    counts = {"records": 9, "lost": 1, "twice": 1, "foreign": 3, "disordered": 1}
    examples = {"lost": [6], "twice": [2], "foreign": ["b'7'", "b'x'", "None"], "disordered": [3]}
    check("sequence", numbers.result(), {**counts, "examples": examples})
    print("oracle.py: self-check passed")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("self-check")
    numbered = verbs.add_parser("sequence")
    numbered.add_argument("--orders", required=True)
    numbered.add_argument("--first", type=int, default=1001)
    numbered.add_argument("--count", type=int, required=True)
    read = verbs.add_parser("verdict")
    read.add_argument("--orders", required=True)
    read.add_argument("--dead-letters", required=True)
    read.add_argument("--simulation-rate", type=float, default=0.0)
    read.add_argument("--max-retries", type=int, default=3)
    given = parser.parse_args()
    if given.verb == "self-check":
        self_check()
    else:
        json.dump(sequence(given) if given.verb == "sequence" else verdict(given), sys.stdout)
        print()


if __name__ == "__main__":
    main()
