"""What a power cut may leave of writes that were not synced: recorded, then replayed in pieces.

The one idea: only what was synced is certain. Every operation that ``durable`` makes is recorded;
then, for a cut after each of them, disks are made on which everything synced has happened, and of
the rest nothing, all, or any part: names without their content, content full of zeros or cut off
half way, a folder's later changes without its earlier ones. That is harsher than ext4, which keeps
the order of names.

A file's content is certain after ``fsync`` of the file; a name, a rename and a removal after
``fsync`` of the folder. Not modelled: a card that says "synced" and is not, a card whose own
bookkeeping dies with the power, errors of a file system, single sectors torn apart in a folder.
"""

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from merino_edge.runtime.updates import durable


class Operation(NamedTuple):
    """One change.

    Attributes:
        kind: "name" (file, folder or link appears), "rename", "remove", "write", "sync" or
            "sync folder".
        path: Of what.
        argument: New path, data, or what appears.
    """

    kind: str
    path: str
    argument: Any = None


@contextlib.contextmanager
def recorded() -> Iterator[list[Operation]]:
    """Record what ``durable`` does to the disk while the block runs."""
    found: list[Operation] = []
    before, durable.os = durable.os, _recording_os(found)
    try:
        yield found
    finally:
        durable.os = before


def _recording_os(found: list[Operation]) -> Any:
    """Stands in for the module ``os`` in ``durable``: does the same and writes it down."""
    paths: dict[int, str] = {}

    def note(kind: str, path: str, argument: Any = None) -> None:
        found.append(Operation(kind, os.path.abspath(path), argument))

    def open_(path: str, flags: int, mode: int = 0o777) -> int:
        handle = os.open(path, flags, mode)
        paths[handle] = path
        if flags & os.O_TRUNC:
            note("name", path, b"")
        return handle

    def write(handle: int, data: Any) -> int:
        n_bytes = os.write(handle, data)
        note("write", paths[handle], bytes(data[:n_bytes]))
        return n_bytes

    def fsync(handle: int) -> None:
        os.fsync(handle)
        kind = "sync folder" if os.path.isdir(paths[handle]) else "sync"
        note(kind, paths[handle])

    def noting(call: Callable[..., None], kind: str, argument: Any = None) -> Callable[..., None]:
        def do(path: str, *others: Any) -> None:
            call(path, *others)
            note(kind, path, argument)

        return do

    def rename(path: str, new_path: str) -> None:
        os.rename(path, new_path)
        note("rename", path, os.path.abspath(new_path))

    def symlink(target: str, path: str) -> None:
        os.symlink(target, path)
        note("name", path, target)

    changed = {
        "open": open_,
        "write": write,
        "fsync": fsync,
        "mkdir": noting(os.mkdir, "name", {}),
        "rmdir": noting(os.rmdir, "remove"),
        "unlink": noting(os.unlink, "remove"),
        "rename": rename,
        "symlink": symlink,
    }
    return SimpleNamespace(**{**vars(os), **changed})


# A node is {"names": {...}} for a folder, {"data": bytearray} for a file, {"target": str} a link.
Node = dict[str, Any]


def node_of(path: str) -> Node:
    """A tree of the disk, in memory."""
    if os.path.islink(path):
        return {"target": os.readlink(path)}
    if os.path.isdir(path):
        return {"names": {name: node_of(os.path.join(path, name)) for name in os.listdir(path)}}
    return {"data": bytearray(Path(path).read_bytes())}


def put_node(node: Node, path: str) -> None:
    """A tree from memory, on the disk."""
    if "target" in node:
        os.symlink(node["target"], path)
    elif "data" in node:
        Path(path).write_bytes(node["data"])
    else:
        os.mkdir(path)
        for name, below in node["names"].items():
            put_node(below, os.path.join(path, name))


def certain(operations: list[Operation]) -> list[bool]:
    """For each operation whether a later one has synced it."""
    answers = []
    for place, operation in enumerate(operations):
        later = [(each.kind, each.path) for each in operations[place + 1 :]]
        if operation.kind == "write":
            answers.append(("sync", operation.path) in later)
        else:
            answers.append(("sync folder", os.path.dirname(operation.path)) in later)
    return answers


class Loss(NamedTuple):
    """One way of losing what was not synced.

    Attributes:
        name: For people.
        keeps: Whether an unsynced operation has happened all the same.
        data: What became of the data of a write that has not: "nothing", "zeros" or "half".
    """

    name: str
    keeps: Callable[[Operation], bool]
    data: str = "nothing"


def losses(rng: random.Random, n_random: int) -> list[Loss]:
    """Ways of losing: the pure ones, and some drawn at random."""
    pure = [
        Loss("nothing unsynced is there", lambda each: False),
        Loss("names without content", lambda each: each.kind != "write"),
        Loss("names with zeros for content", lambda each: each.kind != "write", "zeros"),
        Loss("names with half their content", lambda each: each.kind != "write", "half"),
        Loss("removals and renames alone", lambda each: each.kind in ("remove", "rename")),
        Loss("new names alone", lambda each: each.kind == "name"),
    ]
    drawn = [
        Loss(f"any part ({n})", lambda each: rng.random() < 0.5, rng.choice(["nothing", "half"]))
        for n in range(n_random)
    ]
    return pure + drawn


def disk_after(before: Node, root: str, operations: list[Operation], loss: Loss) -> Node:
    """The tree that a cut after these operations leaves.

    Args:
        before: The tree when all began, all of it synced.
        root: Its path.
        operations: All until the cut.
        loss: What becomes of the unsynced ones.
    """
    disk = _Disk(before, root)
    for operation, is_certain in zip(operations, certain(operations), strict=True):
        disk.apply(operation, is_certain or loss.keeps(operation), loss.data)
    return disk.tree()


class _Disk:
    """What the process sees, and what the disk has of it: the same nodes, other names.

    A write goes to the node that has the name in the process's view, whether or not the disk has
    that name; so a rename whose file's first name was lost still brings the file.
    """

    def __init__(self, before: Node, root: str):
        self._root = root
        self._seen = {root: _copied(before)}
        self._kept: dict[int, dict[str, Node]] = {}
        self._remember(self._seen[root])

    def _remember(self, node: Node) -> None:
        if "names" in node:
            self._kept[id(node)] = dict(node["names"])
            for below in node["names"].values():
                self._remember(below)

    def _folder(self, path: str) -> Node:
        node = self._seen[self._root]
        for part in Path(path).relative_to(self._root).parts:
            node = node["names"][part]
        return node

    def apply(self, operation: Operation, kept: bool, data: str) -> None:
        """Do an operation; on the disk only if it is kept."""
        kind, path, argument = operation
        if kind.startswith("sync") or not path.startswith(self._root + os.sep):
            return
        folder, name = self._folder(os.path.dirname(path)), os.path.basename(path)
        names, on_disk = folder["names"], self._kept[id(folder)]
        if kind == "write":
            lost = {"nothing": b"", "zeros": bytes(len(argument))}
            names[name]["data"] += (
                argument if kept else lost.get(data, argument[: len(argument) // 2])
            )
        elif kind == "name":
            names[name] = self._new(argument)
            if kept:
                on_disk[name] = names[name]
        elif kind == "remove":
            del names[name]
            if kept:
                on_disk.pop(name, None)
        else:
            names[os.path.basename(argument)] = node = names.pop(name)
            if kept:
                on_disk.pop(name, None)
                on_disk[os.path.basename(argument)] = node

    def _new(self, argument: Any) -> Node:
        if isinstance(argument, dict):
            node: Node = {"names": {}}
            self._remember(node)
            return node
        return {"data": bytearray()} if isinstance(argument, bytes) else {"target": argument}

    def tree(self) -> Node:
        """What the disk has."""
        return self._on_disk(self._seen[self._root])

    def _on_disk(self, node: Node) -> Node:
        if "names" not in node:
            return node
        names = self._kept[id(node)]
        return {"names": {name: self._on_disk(below) for name, below in names.items()}}


def _copied(node: Node) -> Node:
    if "names" in node:
        return {"names": {name: _copied(below) for name, below in node["names"].items()}}
    return {"data": bytearray(node["data"])} if "data" in node else dict(node)


def restore(node: Node, path: str) -> None:
    """Replace what is at a path by a tree."""
    shutil.rmtree(path, ignore_errors=True)
    put_node(node, path)
