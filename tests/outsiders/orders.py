"""What an order is to an outside client: its Avro schema, Confluent's wire format, and Kafka's partitioner."""

import io
import json
import struct
import urllib.error
import urllib.request

import fastavro

SCHEMA = {
    "type": "record",
    "name": "Order",
    "namespace": "com.kafka.orders",
    "aliases": ["order.OrderRecord"],
    "fields": [
        {"name": "orderId", "type": "string"},
        {"name": "product", "type": "string"},
        {"name": "price", "type": "float"},
    ],
}
PARSED_SCHEMA = fastavro.parse_schema(SCHEMA)
# What a processor takes by default: the longest value, and the highest price.
VALUE_BYTES_MAX = 65_536
PRICE_MAX = 1e12
REGISTRY_JSON = "application/vnd.schemaregistry.v1+json"
SINGLE_OBJECT_MARKER = b"\xc3\x01"
WIRE_HEADER = struct.Struct(">bI")


def call_registry(url, body=None):
    """Sends one request to a schema registry and returns the JSON of its answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Accept": REGISTRY_JSON, "Content-Type": REGISTRY_JSON}
    with urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers), timeout=30) as answer:
        return json.load(answer)


def register(registry_url, subject, schema=None):
    """Registers a schema, the order's own unless another is given, and returns its id."""
    body = {"schema": json.dumps(schema or SCHEMA)}
    return call_registry(f"{registry_url}/subjects/{subject}/versions", body)["id"]


def named(full_name):
    """Returns the order's schema as a team has it that calls the record `full_name`: the same fields, no aliases."""
    namespace, _, name = full_name.rpartition(".")
    schema = {"type": "record", "name": name, "fields": SCHEMA["fields"]}
    return {**schema, "namespace": namespace} if namespace else schema


def encode(schema_id, order_id, product, price):
    """Returns an order in Confluent's wire format."""
    return encode_as("confluent", {"orderId": order_id, "product": product, "price": price}, schema_id=schema_id)


def encode_as(wire_format, order, schema=None, schema_id=None):
    """Returns an order in one of the wire formats: confluent, bare, container or single-object."""
    schema = fastavro.parse_schema(schema) if schema else PARSED_SCHEMA
    out = io.BytesIO()
    if wire_format == "container":
        fastavro.writer(out, schema, [order])
        return out.getvalue()
    if wire_format == "confluent":
        out.write(WIRE_HEADER.pack(0, schema_id))
    elif wire_format == "single-object":
        fingerprint = fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(schema), "CRC-64-AVRO")
        out.write(SINGLE_OBJECT_MARKER + bytes.fromhex(fingerprint))
    elif wire_format != "bare":
        raise ValueError(f"no such wire format: {wire_format}")
    fastavro.schemaless_writer(out, schema, order)
    return out.getvalue()


class Decoder:
    """Decodes values in Confluent's wire format, with the writer schemas that a registry holds."""

    def __init__(self, registry_url):
        self.registry_url = registry_url
        self.writer_schemas = {}

    def writer_schema(self, schema_id):
        """Returns the schema, or None where the registry knows none."""
        if schema_id not in self.writer_schemas:
            try:
                text = call_registry(f"{self.registry_url}/schemas/ids/{schema_id}")["schema"]
                self.writer_schemas[schema_id] = fastavro.parse_schema(json.loads(text))
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise
                self.writer_schemas[schema_id] = None
        return self.writer_schemas[schema_id]

    def decode(self, value):
        """Returns the order and None, or None and the `dlq.error.type` of what is no order in Confluent's wire format."""
        if value is None:
            return None, "tombstone"
        if len(value) > VALUE_BYTES_MAX:
            return None, "oversize"
        if value[:1] != b"\x00":
            return None, "unknown-format"
        if len(value) < WIRE_HEADER.size:
            return None, "truncated"
        _magic, schema_id = WIRE_HEADER.unpack_from(value)
        schema = self.writer_schema(schema_id)
        if schema is None:
            return None, "unknown-schema"
        datum = io.BytesIO(value[WIRE_HEADER.size :])
        try:
            order = fastavro.schemaless_reader(datum, schema, PARSED_SCHEMA)
        except (EOFError, IndexError):
            return None, "truncated"
        except (ValueError, fastavro.read.SchemaResolutionError):
            return None, "schema-mismatch"
        if datum.read(1) != b"":
            return None, "trailing-bytes"
        return (order, None) if 0 <= order["price"] <= PRICE_MAX else (None, "invalid-price")


def murmur2(data):
    """Returns the 32-bit hash by which Kafka's default partitioner spreads keys, as an unsigned number."""
    mask, multiplier = 0xFFFFFFFF, 0x5BD1E995
    length = len(data)
    hash_ = (0x9747B28C ^ length) & mask
    whole = length & ~3
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        word = (word * multiplier) & mask
        word ^= word >> 24
        word = (word * multiplier) & mask
        hash_ = ((hash_ * multiplier) & mask) ^ word
    tail = data[whole:]
    if tail:
        hash_ ^= int.from_bytes(tail, "little")
        hash_ = (hash_ * multiplier) & mask
    hash_ ^= hash_ >> 13
    hash_ = (hash_ * multiplier) & mask
    return hash_ ^ (hash_ >> 15)


def partition_of(key, partitions):
    """Returns the partition in which Kafka's default partitioner puts a key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def micro_units(price):
    """Returns a price that is a 32-bit float in millionths, rounded half to even.

    A 32-bit float has 24 significant bits and 1,000,000 = 2^6 × 15,625 adds 14: the product is exact in a 64-bit float.
    """
    return round(price * 1_000_000.0)
