"""Makes the aggregates of this folder with the aws_kinesis_agg package (1.2.3): for each NAME.bin, the lines of NAME.txt say
what is in it, one record a line: partition key, explicit hash key or -, data as hexadecimal digits.

    pip install aws_kinesis_agg==1.2.3 six && python make.py
"""

import hashlib
from aws_kinesis_agg.aggregator import RecordAggregator

HALF = 1 << 127
SETS = {
    "plain": [("ada", None, b"one"), ("bob", None, b"two"), ("ada", None, b"three")],
    "explicit": [("ada", 0, b"low"), ("bob", HALF, b"high"), ("cy", 2**128 - 1, b"last"), ("dan", None, b"none")],
    "odd": [("\u00f6l \u6c34", None, bytes(range(256))), ("k" * 256, None, b""), ("e", None, "\u00e9".encode())],
    "many": [(f"key{n % 37}", None, hashlib.sha256(str(n).encode()).digest()[: n % 33]) for n in range(1000)],
}

for name, records in SETS.items():
    aggregator = RecordAggregator()
    for key, chosen, data in records:
        full = aggregator.add_user_record(key, data, None if chosen is None else str(chosen))
        assert full is None, "one aggregate holds a set"
    _, _, packed = aggregator.clear_and_get().get_contents()
    with open(f"{name}.bin", "wb") as file:
        file.write(packed)
    with open(f"{name}.txt", "w", encoding="utf-8") as file:
        for key, chosen, data in records:
            file.write(f"{key}\t{'-' if chosen is None else chosen}\t{data.hex()}\n")
