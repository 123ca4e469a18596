#!/usr/bin/env python3
"""A guest in a consumer group: a librdkafka consumer that takes its share of the partitions, and commits.

    guest.py --group GROUP --strategy cooperative-sticky TOPIC...

Tells on standard output, a JSON object a line, which partitions it holds after each rebalance ("assigned"), from how many
it has consumed, at the first record of each ("consuming"), what it committed ("committed", the next offset of each
partition), and on SIGTERM, after it has left the group, the first and the last offset it consumed of each partition
("left"). A partition is written TOPIC:PARTITION. BOOTSTRAP_SERVERS says where.
"""

import argparse
import json
import os
import signal
import threading

import confluent_kafka

COMMIT_EVERY_RECORDS = 100


def place(partition):
    return f"{partition.topic}:{partition.partition}"


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Guest:
    def __init__(self, topics, group, strategy):
        self.held = set()
        self.consumed = {}
        self.consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": os.environ["BOOTSTRAP_SERVERS"],
                "group.id": group,
                "client.id": "guest",
                "partition.assignment.strategy": strategy,
                "session.timeout.ms": 10000,
                "heartbeat.interval.ms": 1000,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        self.is_incremental = strategy == "cooperative-sticky"
        self.consumer.subscribe(topics, on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)

    def assigned(self, consumer, partitions):
        # Also called with nothing, when a rebalance leaves everything as it was.
        if self.is_incremental:
            consumer.incremental_assign(partitions)
        else:
            consumer.assign(partitions)
        self.held.update(map(place, partitions))
        tell("assigned", partitions=sorted(self.held))

    def revoked(self, consumer, partitions):
        self.commit()
        self.lost(consumer, partitions)

    def lost(self, consumer, partitions):
        if self.is_incremental:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()
        self.held.difference_update(map(place, partitions))

    def commit(self):
        try:
            committed = self.consumer.commit(asynchronous=False)
        except confluent_kafka.KafkaException as error:
            if error.args[0].code() != confluent_kafka.KafkaError._NO_OFFSET:
                tell("commit failed", error=str(error))
            return
        tell("committed", offsets={place(found): found.offset for found in committed if found.offset >= 0})

    def run(self, stop):
        uncommitted = 0
        while not stop.is_set():
            message = self.consumer.poll(0.2)
            if message is not None and message.error() is None:
                source = f"{message.topic()}:{message.partition()}"
                is_new = source not in self.consumed
                first, _last = self.consumed.get(source, (message.offset(), None))
                self.consumed[source] = first, message.offset()
                if is_new:
                    tell("consuming", places=len(self.consumed))
                uncommitted += 1
            if uncommitted >= COMMIT_EVERY_RECORDS or (message is None and uncommitted):
                self.commit()
                uncommitted = 0
        self.commit()
        self.consumer.close()
        tell("left", consumed=self.consumed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", required=True)
    parser.add_argument("--strategy", default="cooperative-sticky")
    parser.add_argument("topics", nargs="+")
    given = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    Guest(given.topics, given.group, given.strategy).run(stop)


if __name__ == "__main__":
    main()
