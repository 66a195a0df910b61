"""Plans, and timing caches, as bytes: sealed, so that a damaged one is noticed as damaged.

Layout: magic (8) | version (16) | compute capability (2 x 1) | length (8) | sha256 (32) | payload.
A plan's payload is JSON: which ONNX file, tensors, profiles, and the float32 layers that the
builder was free to compute in half.
"""

import hashlib
import json
import struct
from collections import namedtuple

MAGIC = b"TRTPLAN\0"
_HEADER = struct.Struct("<8s16sBBQ32s")
Sealed = namedtuple("Sealed", "version compute_capability payload")


class HostMemory(bytearray):
    """The bytes under IHostMemory: only its buffer is used, see ``cut_host_memory``."""


def seal(magic, version, capability, payload):
    """The bytes of a file."""
    digest = hashlib.sha256(payload).digest()
    tag = version.encode("ascii")
    return _HEADER.pack(magic, tag, capability[0], capability[1], len(payload), digest) + payload


def open_sealed(magic, data):
    """Version, compute capability and payload.

    Raises:
        ValueError: Another kind of file, cut off, or changed.
    """
    if len(data) < _HEADER.size:
        raise ValueError("Assertion bufferSize >= minBufferSize failed.")
    found, version, major, minor, length, digest = _HEADER.unpack_from(data)
    payload = bytes(data[_HEADER.size :])
    if found != magic:
        raise ValueError("Serialization assertion magicTagRead == magicTag failed.")
    if length != len(payload):
        raise ValueError("Serialization assertion sizeRead == static_cast<uint64_t>(size) failed.")
    if digest != hashlib.sha256(payload).digest():
        raise ValueError("Serialization assertion checksum == storedChecksum failed.")
    return Sealed(version.rstrip(b"\0").decode("ascii"), (major, minor), payload)


def write_plan(library, facts):
    """A plan's bytes from what it says."""
    payload = json.dumps(facts, sort_keys=True).encode("utf-8")
    return seal(MAGIC, library.full_version, library.compute_capability, payload)


def read_plan(data):
    """What a plan says, for tests: the facts, whatever version wrote them.

    Raises:
        ValueError: It is no plan, or a damaged one.
    """
    return json.loads(open_sealed(MAGIC, bytes(memoryview(data))).payload.decode("utf-8"))


def to_host_memory(library, data):
    """IHostMemory around bytes."""
    return library.classes["IHostMemory"](data)


def cut_host_memory(library):
    """IHostMemory: a buffer with ``nbytes`` and ``dtype``; no len(), no index, no bytes methods.

    Until Python 3.12 only a class that derives from a buffer is one, hence the bytearray below.
    """
    allowed = set(library.names["IHostMemory"])

    def refuse(self, *args):
        raise TypeError("object of type 'tensorrt.tensorrt.IHostMemory' has no such operation")

    def look_up(self, name):
        if name.startswith("__") or name in allowed:
            return bytearray.__getattribute__(self, name)
        text = f"'tensorrt.tensorrt.IHostMemory' object has no attribute '{name}'"
        raise AttributeError(text)

    space = {name: refuse for name in ("__len__", "__getitem__", "__iter__", "__contains__")}
    space.update(
        __slots__=(),
        __getattribute__=look_up,
        __eq__=lambda self, other: self is other,
        __hash__=object.__hash__,
        __repr__=object.__repr__,
        nbytes=property(bytearray.__len__),
        dtype=property(lambda self: library.enum("DataType", "INT8")),
    )
    return type("IHostMemory", (HostMemory,), space)
