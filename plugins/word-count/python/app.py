"""Counts words, as `../src/lib.rs` says: the same words, the same state, the same output. A job may go from one to the other.

This is what a task in Python is without an SDK: the class `Processor`, and the bindings that componentize-py makes of the
world `task` in `wit/task.wit`. `make guests` builds it.
"""

import re
from collections import Counter

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import context, output, state
from wit_world.imports.output import Message
from wit_world.imports.state import Write
from wit_world.imports.types import Failure, FailureKind

KEY_BYTES_MAX = 1_024
DATA_BYTES_MAX = 1_000_000
# Most keys of one host call, so that no answer passes its limit.
KEYS_MAX = 4_096

WORD = re.compile(rb"[0-9a-z\x80-\xff]+")


class Processor(exports.Processor):
    def init(self):
        pass

    def process(self, records):
        name = context.config("output")
        try:
            texts = [words(record.data) for record in records]
            added = Counter(word for text in texts for word in text)
            before = read(list(added))
            if name is not None:
                output.emit_many(name, list(messages(records, texts, before)))
            write([(word, before[word] + count) for word, count in added.items()])
        except Err as refused:
            raise Err(failure(refused.value)) from None


def words(data):
    """The words of a record's data: `bytes.lower` leaves alone what is not ASCII."""
    return [cut(word) for word in WORD.findall(data.decode("utf-8", "replace").encode().lower())]


def cut(word):
    """The part of a word that can be a key: it ends where a character ends."""
    end = min(len(word), KEY_BYTES_MAX)
    while end < len(word) and word[end] & 0b1100_0000 == 0b1000_0000:
        end -= 1
    return word[:end]


def read(keys):
    """The count of each word before this call."""
    counts = {}
    for some in slices(keys):
        counts.update(zip(some, map(count, some, state.get_many(some))))
    return counts


def count(word, value):
    if value is None:
        return 0
    if len(value) != 8:
        raise Err(Failure(FailureKind.FATAL, None, f"the count of {word!r} has {len(value)} bytes, not 8"))
    return int.from_bytes(value, "big")


def write(counts):
    for some in slices(counts):
        state.write_many([Write(word, count.to_bytes(8, "big")) for word, count in some])


def slices(items):
    return (items[at : at + KEYS_MAX] for at in range(0, len(items), KEYS_MAX))


def messages(records, texts, before):
    """For each record its words with their counts after it."""
    counts = Counter(before)
    for record, text in zip(records, texts):
        counts.update(text)
        lines = bytearray()
        for word in sorted(set(text)):
            line = b"%s=%d\n" % (word, counts[word])
            if len(lines) + len(line) > DATA_BYTES_MAX:
                yield Message(record.partition_key, bytes(lines))
                lines.clear()
            lines += line
        if lines:
            yield Message(record.partition_key, bytes(lines))


def failure(refused):
    """What the host is to do about what it refused."""
    match refused:
        case Failure():
            return refused
        case state.Error_Store(cause):
            return Failure(FailureKind.RETRY, None, cause)
        case output.Error_UnknownOutput(name):
            return Failure(FailureKind.FATAL, None, f"the job has no output {name!r}")
        case _:
            return Failure(FailureKind.POISON, None, f"the host refused a call: {refused}")
