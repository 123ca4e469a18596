#!/usr/bin/env python3
"""A peer of the processor: confluent-kafka with fastavro, consuming in batches.

    confluent_fastavro.py BOOTSTRAP_SERVERS TOPIC GROUP ORDERS [SETTING=VALUE...]

The settings are librdkafka's. Every order is decoded and added up, progress committed twice a second and at the end. Prints one JSON object: the orders,
their sum, and the seconds from the assignment to the last commit.
"""

import io
import json
import sys
import time
from pathlib import Path

import confluent_kafka
import fastavro

SCHEMA = fastavro.parse_schema(json.loads((Path(__file__).parents[2] / "avro" / "order.avsc").read_text()))
WIRE_HEADER_BYTES = 5
BATCH_RECORDS = 10_000
COMMIT_INTERVAL_SECONDS = 0.5


def main():
    servers, topic, group, orders, *tuning = sys.argv[1:]
    expected = int(orders)
    assigned = []
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **dict(setting.split("=") for setting in tuning),
        }
    )
    consumer.subscribe([topic], on_assign=lambda *_: assigned.append(time.monotonic()))
    count, total = 0, 0.0
    committed = time.monotonic()
    while count < expected:
        for message in consumer.consume(num_messages=BATCH_RECORDS, timeout=0.1):
            if message.error():
                raise SystemExit(f"confluent_fastavro.py: {message.error().str()}")
            datum = io.BytesIO(message.value())
            datum.seek(WIRE_HEADER_BYTES)
            total += fastavro.schemaless_reader(datum, SCHEMA, SCHEMA)["price"]
            count += 1
        if time.monotonic() - committed >= COMMIT_INTERVAL_SECONDS and count:
            consumer.commit(asynchronous=True)
            committed = time.monotonic()
    consumer.commit(asynchronous=False)
    seconds = time.monotonic() - assigned[0]
    print(json.dumps({"orders": count, "sum": total, "seconds": seconds}))


if __name__ == "__main__":
    main()
