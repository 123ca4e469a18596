#!/usr/bin/env python3
"""Watches how far a consumer group is, partition by partition, with librdkafka.

    watch.py --group GROUP --topic TOPIC [--interval 0.5]

Prints a JSON object a line, until SIGTERM:

    at             the time, in seconds since the Unix epoch
    coordinator    the broker that leads the group's partition of __consumer_offsets, -1 for none
    partitions     for each partition its leader (-1 for none), its log end, and the committed offset; null stands for what
                   no broker has told within two seconds

BOOTSTRAP_SERVERS says where. While no broker describes the topic, there is no line.
"""

import argparse
import json
import os
import signal
import sys
import time

import confluent_kafka
from confluent_kafka import TopicPartition

ANSWER_SECONDS = 2.0
# The time that stands for the end of a log.
END_TIME = -1
OFFSETS_TOPIC = "__consumer_offsets"


def java_hash(text):
    """Returns Java's hash of a text in ASCII, by which Kafka chooses a group's partition of its offsets topic."""
    hash_ = 0
    for byte in text.encode("ascii"):
        hash_ = (31 * hash_ + byte) & 0xFFFFFFFF
    return hash_


def told(call, partitions):
    """Returns the offsets that a call tells of partitions, by partition; of those that it does not tell none."""
    try:
        found = call(partitions, timeout=ANSWER_SECONDS)
    except confluent_kafka.KafkaException:
        return {}
    return {partition.partition: partition.offset for partition in found if partition.error is None}


def ends_of(consumer, topic, leaders):
    """Returns the log ends of partitions; each leader is asked apart, as one may be silent."""
    ends = {}
    for leader in set(leaders.values()):
        asked = [TopicPartition(topic, index, END_TIME) for index in leaders if leaders[index] == leader]
        ends.update(told(consumer.offsets_for_times, asked))
    return {index: end for index, end in ends.items() if end >= 0}


def sample(consumer, given):
    topics = consumer.list_topics(timeout=ANSWER_SECONDS).topics
    leaders = {index: found.leader for index, found in topics[given.topic].partitions.items()}
    offsets = topics[OFFSETS_TOPIC].partitions
    coordinator = offsets[(java_hash(given.group) & 0x7FFFFFFF) % len(offsets)].leader
    ends = ends_of(consumer, given.topic, {index: leader for index, leader in leaders.items() if leader >= 0})
    committed = told(consumer.committed, [TopicPartition(given.topic, index) for index in leaders])
    # A partition without a committed offset has one below 0.
    committed = {index: max(0, offset) for index, offset in committed.items()}
    partitions = {
        index: {"leader": leader, "end": ends.get(index), "committed": committed.get(index)}
        for index, leader in leaders.items()
    }
    return {"at": time.time(), "coordinator": coordinator, "partitions": partitions}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--interval", type=float, default=0.5)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": os.environ["BOOTSTRAP_SERVERS"],
            "group.id": given.group,
            "socket.timeout.ms": 2_000,
            "log_level": 0,
        }
    )
    while True:
        try:
            print(json.dumps(sample(consumer, given)), flush=True)
        except (confluent_kafka.KafkaException, KeyError):
            pass
        time.sleep(given.interval)


if __name__ == "__main__":
    main()
