#!/usr/bin/env python3
"""Writes a topic in which good orders lie among everything that is none, and checks what became of the latter.

    oddities.py write --topic TOPIC --orders 100000 --expected FILE
    oddities.py check --dead-letters TOPIC --expected FILE

`write` writes with librdkafka: outside transactions, in committed ones and in aborted ones. Many records, good and bad,
have headers that few clients write: null values, repeated names, names and values that are no text (these by kcat). It
tells how many orders a read_committed consumer has to count, their sum in millionths, how many dead letters there must
be, and where two batches of good orders lie: of the first one all is to be damaged, of the second one its first record.
What each dead letter must hold goes into FILE.

`check` reads the dead letters and holds them against FILE: type of error, key, value and original headers byte for byte,
or what stands for a value that is too large. `--lost N` says that N dead letters more are about the log itself.

BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL say where.
"""

import argparse
import hashlib
import json
import os
import random
import struct
import subprocess
import tempfile

import confluent_kafka
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

import oracle
import orders

DEADLINE_SECONDS = 60
CHUNK_ORDERS = 1000
LONE_BATCH_ORDERS = 20
MESSAGE_BYTES_MAX = 4_000_000
# More than a dead letter can hold, and more than the processors take for an order.
LARGE_BYTES = 2_000_000
OVERSIZE_BYTES = 3_500_000
PARCEL = {"type": "record", "name": "Parcel", "fields": [{"name": "weight", "type": "long"}]}
UNKNOWN_SCHEMA_ID = 0x7FFFFFFF
# Headers as librdkafka's users can write them.
ODD_HEADERS = [
    [],
    [("trace", b"1")],
    [("b", b"1"), ("a", b"2")],
    [("null", None)],
    [("twice", b"1"), ("twice", b"2"), ("twice", None)],
    [("binary", bytes(range(256))), ("", b""), ("späť", "ö".encode())],
    [("timestamp", b"noon"), ("error_reason", b"mine"), ("__dlq.errors.topic", b"not ours")],
]
# Headers whose names are no text: kcat passes on any bytes.
RAW_HEADERS = [[(b"\xff\xfe", b"v")], [(b"a", b"1"), (b"\xc3(", b"\x80"), (b"a", None)]]
# Our own names, which a record may not bring along: they are replaced.
OUR_PREFIXES = (b"dlq.", b"__dlq.errors.")


class Oddities:
    """Bad records of every kind, and what their dead letters must be."""

    def __init__(self, schema_id, parcel_id):
        self.schema_id = schema_id
        self.parcel_id = parcel_id
        self.random = random.Random(2)
        self.expected = {}

    def good(self, price=12.5, product="Item1"):
        return orders.encode(self.schema_id, "1001", product, price)

    def values(self):
        """Yields the type of error and the value of every kind of record that is no order."""
        good = self.good()
        yield "bad-magic", b"not an order"
        yield "truncated", good[:-1]
        yield "truncated", good[:5]
        yield "truncated", b""
        yield "trailing-bytes", good + b"!"
        yield "unknown-schema", struct.pack(">bI", 0, UNKNOWN_SCHEMA_ID) + good[5:]
        yield "schema-mismatch", struct.pack(">bI", 0, self.parcel_id) + b"\x02"
        for price in (float("nan"), float("inf"), -1.0, 2e12):
            yield "invalid-price", self.good(price)
        yield "tombstone", None

    def expect(self, error_type, value, headers, is_omitted=False, has_large_headers=False):
        """Returns the key under which the letter about a bad record is expected."""
        key = f"bad-{len(self.expected)}".encode()
        digest = hashlib.sha256(value or b"").hexdigest()
        kept = [
            [name.hex(), None if content is None else content.hex()]
            for name, content in headers
            if not name.startswith(OUR_PREFIXES)
        ]
        self.expected[key.decode()] = {
            "type": error_type,
            "value": None if value is None or is_omitted else value.hex(),
            "omitted": [len(value), digest] if is_omitted else None,
            "headers": None if has_large_headers else kept,
        }
        return key


class Writer:
    def __init__(self, given):
        self.given = given
        self.servers = os.environ["BOOTSTRAP_SERVERS"]
        registry = os.environ["SCHEMA_REGISTRY_URL"]
        schema_id = orders.register(registry, f"{given.topic}-value")
        self.oddities = Oddities(schema_id, orders.register(registry, f"{given.topic}-parcels", PARCEL))
        self.random = random.Random(1)
        self.seen = self.sum_micros = 0

    def producer(self, **more):
        config = {
            "bootstrap.servers": self.servers,
            "message.max.bytes": MESSAGE_BYTES_MAX,
            "batch.num.messages": 200,
            "linger.ms": 5,
            "queue.buffering.max.kbytes": 100_000,
        }
        return confluent_kafka.Producer({**config, **more})

    def produce(self, producer, key, value, headers, partition=-1):
        failures = self.failures = getattr(self, "failures", [])

        def delivered(error, message):
            if error:
                failures.append(error)
            else:
                self.last_offset = message.offset()

        while True:
            try:
                producer.produce(
                    self.given.topic, key=key, value=value, headers=headers, partition=partition, on_delivery=delivered
                )
                return
            except BufferError:
                producer.poll(1)

    def flush(self, producer):
        if producer.flush(DEADLINE_SECONDS) or getattr(self, "failures", []):
            raise SystemExit(f"oddities.py: not delivered: {self.failures[:3]}")

    def order(self, is_seen=True, product="Item1"):
        (price,) = struct.unpack("<f", struct.pack("<f", self.random.uniform(9.99, 999.99)))
        if is_seen:
            self.seen += 1
            self.sum_micros += orders.micro_units(price)
        order_id = str(self.random.getrandbits(64))
        return order_id.encode(), orders.encode(self.oddities.schema_id, order_id, product, price)

    def chunk(self, producer, count, is_seen, is_large):
        """Writes good orders with one of every kind of bad record in some place among them."""
        bad = list(self.oddities.values())
        places = {}
        for one in bad:
            places.setdefault(self.random.randrange(count), []).append(one)
        for index in range(count):
            headers = self.random.choice(ODD_HEADERS) if self.random.random() < 0.1 else []
            self.produce(producer, *self.order(is_seen), headers)
            for error_type, value in places.get(index, []):
                self.bad(producer, error_type, value, self.random.choice(ODD_HEADERS), is_seen)
        if is_large:
            self.produce(producer, *self.order(is_seen, product="x" * LARGE_BYTES), [])
            value = self.oddities.good() + b"!" * LARGE_BYTES
            self.bad(producer, "trailing-bytes", value, ODD_HEADERS[4], is_seen, is_omitted=True)
            headers = [("large", b"x" * LARGE_BYTES)]
            self.bad(producer, "bad-magic", b"x", headers, is_seen, is_omitted=True, has_large_headers=True)
            value = self.oddities.good(product="x" * OVERSIZE_BYTES)
            self.bad(producer, "oversize", value, ODD_HEADERS[1], is_seen, is_omitted=True)
        self.flush(producer)

    def bad(self, producer, error_type, value, headers, is_seen, **more):
        key = b"aborted"
        if is_seen:
            raw = [(name.encode(), content) for name, content in headers]
            key = self.oddities.expect(error_type, value, raw, **more)
        self.produce(producer, key, value, headers)

    def by_kcat(self):
        """Writes good orders and bad records whose headers' names are no text."""
        for headers in RAW_HEADERS:
            arguments = []
            for name, content in headers:
                arguments += [b"-H", name if content is None else name + b"=" + content]
            key, value = self.order()
            self.kcat(key, value, arguments)
            value = b"no order, by kcat"
            self.kcat(self.oddities.expect("bad-magic", value, headers), value, arguments)

    def kcat(self, key, value, arguments):
        with tempfile.NamedTemporaryFile() as payload:
            payload.write(value)
            payload.flush()
            command = ["kcat", "-P", "-b", self.servers, "-t", self.given.topic, "-k", key, *arguments, payload.name]
            subprocess.run(command, check=True)

    def lone_batch(self, lost):
        """Writes one batch of good orders, of which the first `lost` will be damaged; returns its base offset."""
        count = LONE_BATCH_ORDERS
        producer = self.producer(**{"linger.ms": 1000, "batch.num.messages": count})
        for index in range(count):
            self.produce(producer, *self.order(is_seen=index >= lost), [], partition=0)
        self.flush(producer)
        return self.last_offset - count + 1

    def allow_large_messages(self):
        """Raises the limit of the topic, whose dead-letter topic was made for the lower one."""
        entry = ConfigEntry("max.message.bytes", str(MESSAGE_BYTES_MAX), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, self.given.topic, incremental_configs=[entry])
        admin = AdminClient({"bootstrap.servers": self.servers})
        for altered in admin.incremental_alter_configs([resource]).values():
            altered.result(DEADLINE_SECONDS)

    def run(self):
        self.allow_large_messages()
        plain = self.producer()
        transactional = self.producer(**{"transactional.id": f"{self.given.topic}-oddities"})
        transactional.init_transactions(DEADLINE_SECONDS)
        for number in range(self.given.orders // CHUNK_ORDERS):
            is_large = number < 3
            if number % 3 == 0:
                self.chunk(plain, CHUNK_ORDERS, True, is_large)
                continue
            is_committed = number % 3 == 1
            transactional.begin_transaction()
            self.chunk(transactional, CHUNK_ORDERS, is_committed, is_large)
            if is_committed:
                transactional.commit_transaction(DEADLINE_SECONDS)
            else:
                transactional.abort_transaction(DEADLINE_SECONDS)
            if number == self.given.orders // CHUNK_ORDERS // 2:
                self.by_kcat()
        lone = [self.lone_batch(lost) for lost in (LONE_BATCH_ORDERS, 1)]
        self.chunk(plain, CHUNK_ORDERS, True, False)
        with open(self.given.expected, "w") as file:
            json.dump(self.oddities.expected, file)
        told = {"orders": self.seen, "sum_micros": self.sum_micros, "dead_letters": len(self.oddities.expected)}
        print(json.dumps({**told, "lone_batches": lone}))


def is_text(name):
    try:
        bytes.fromhex(name).decode()
    except UnicodeDecodeError:
        return False
    return True


def headers_of(letter, expected):
    """Returns a letter's headers; by kcat if a name is no text, which crashes Python's client."""
    known = expected.get((letter.key() or b"").decode(), {})
    if all(is_text(name) for name, _content in known.get("headers") or []):
        return [(name.encode(), content) for name, content in letter.headers()]
    place = ["-t", letter.topic(), "-p", str(letter.partition()), "-o", str(letter.offset())]
    command = ["kcat", "-C", "-b", os.environ["BOOTSTRAP_SERVERS"], *place, "-c", "1", "-e", "-q", "-f", "%h"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    pairs = [header.partition(b"=") for header in printed.split(b",")]
    return [(name, None if content == b"NULL" else content) for name, _equals, content in pairs]


def told_by(letter, headers):
    """Returns what a letter holds, in the form of what is expected: the failed record's headers come before its own."""
    texts = dict(headers)
    own = max(index for index, (name, _content) in enumerate(headers) if name == b"dlq.error.type")
    kept = [[name.hex(), None if content is None else content.hex()] for name, content in headers[:own]]
    omitted = None
    if texts.get(b"dlq.value") == b"omitted":
        omitted = [int(texts[b"dlq.value.bytes"]), texts[b"dlq.value.sha256"].decode()]
    return {
        "type": texts[b"dlq.error.type"].decode(),
        "value": None if letter.value() is None else letter.value().hex(),
        "omitted": omitted,
        "headers": None if b"dlq.headers" in texts else kept,
    }


def check(given):
    with open(given.expected) as file:
        expected = json.load(file)
    by_digest = {hashlib.sha256(key.encode()).hexdigest(): key for key in expected}
    lost, wrong = 0, []
    for letter in oracle.read_topic(os.environ["BOOTSTRAP_SERVERS"], given.dead_letters):
        headers = headers_of(letter, expected)
        texts = dict(headers)
        if texts[b"dlq.error.type"] in (b"corrupt-batch", b"undecodable-record"):
            lost += 1
            continue
        key = letter.key().decode() if letter.key() else by_digest.get(texts.get(b"dlq.key.sha256", b"").decode())
        if key not in expected:
            wrong.append(f"{key}: unexpected, or there twice")
            continue
        told = told_by(letter, headers)
        if told != expected.pop(key):
            wrong.append(f"{key}: {str(told)[:500]}")
    wrong += [f"{key}: missing, or not as expected: {str(what)[:300]}" for key, what in expected.items()]
    if wrong or lost != given.lost:
        raise SystemExit("oddities.py: " + "\n".join([f"{lost} letters about the log", *wrong[:20]]))
    print("as expected")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    write = verbs.add_parser("write")
    write.add_argument("--topic", required=True)
    write.add_argument("--orders", type=int, required=True)
    write.add_argument("--expected", required=True)
    held = verbs.add_parser("check")
    held.add_argument("--dead-letters", required=True)
    held.add_argument("--expected", required=True)
    held.add_argument("--lost", type=int, default=0)
    given = parser.parse_args()
    if given.verb == "write":
        Writer(given).run()
    else:
        check(given)


if __name__ == "__main__":
    main()
