"""The engines that this machine has built, and why one of them does not fit.

The one idea: a record counts, a plan alone does not. A plan is stored under a name with its own
checksum in it, and then its record is replaced, which is one atomic step: whatever interrupts, the
cache holds the old engine or the new one. Everything is decided on the records; TensorRT is not
asked, and no plan is opened before its checksum agrees.

::

    ENGINE_ID.json                   the record (``EngineRecord``)
    ENGINE_ID-SHA256.plan            the plan that it names
    .ENGINE_ID-PID.incoming          a plan that is being built
    timing-8.2.1.8-sm53.cache        what the builder measured, for the next build
"""

import contextlib
import glob
import os
import re
import shlex
from typing import List, Mapping, NamedTuple, Optional

from merino_edge.errors import EngineError, FormatError
from merino_edge.formats import jsonio
from merino_edge.formats.engine_record import (
    SCHEMA,
    EngineKey,
    EngineRecord,
    Verification,
    differences,
    l4t_warning,
)
from merino_edge.runtime.engine.cache_entry import (
    Entry,
    check_plan,
    entry_at,
    read_entry_record,
)
from merino_edge.runtime.engine.timing_cache import timing_cache_name


class Found(NamedTuple):
    """An engine that fits.

    Attributes:
        plan_path: Its plan, whose checksum agreed.
        record: What is known about it.
        warnings: Sentences for people, such as about another patch level of L4T.
    """

    plan_path: str
    record: EngineRecord
    warnings: List[str]


class Mismatch(NamedTuple):
    """An engine of the same graph or bundle that does not fit.

    Attributes:
        record: What it is.
        reasons: What differs, in words.
    """

    record: EngineRecord
    reasons: List[str]


def default_folder(environment: Optional[Mapping[str, str]] = None) -> str:
    """Where engines are kept: $MERINO_EDGE_CACHE, or below the user's cache folder."""
    variables = os.environ if environment is None else environment
    if variables.get("MERINO_EDGE_CACHE"):
        return variables["MERINO_EDGE_CACHE"]
    home = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(variables.get("XDG_CACHE_HOME") or home, "merino-edge", "engines")


class EngineCache:
    """Engines in a folder.

    Args:
        folder: Where; None for the user's default. It is made when it is first written to.
    """

    def __init__(self, folder: Optional[str] = None):
        self.folder = os.path.abspath(folder or default_folder())

    def knows(self, key: EngineKey) -> bool:
        """Whether there is a record for a key; nothing is read."""
        return os.path.exists(self._record_path(key))

    def find(self, key: EngineKey) -> Optional[Found]:
        """The engine for a key, or None.

        Raises:
            ChecksumError: There is one, and its plan was cut or changed.
            FormatError: There is one, and its record cannot be read.
        """
        path = self._record_path(key)
        if not os.path.exists(path):
            return None
        record = read_entry_record(path)
        plan_path = os.path.join(self.folder, record.plan_file)
        if differences(record.key, key) or not os.path.exists(plan_path):
            return None
        check_plan(plan_path, record)
        warning = l4t_warning(record.key.l4t, key.l4t)
        return Found(plan_path, record, [warning] if warning else [])

    def check(self, key: EngineKey, bundle_path: str, bundle_name: str = "") -> Found:
        """The engine for a key, or the reason why there is none.

        Args:
            key: What is wanted here.
            bundle_path: For the command in the hint.
            bundle_name: To find engines of an older version of the bundle.

        Raises:
            EngineError: There is none; what differs from those there are, and how to build one.
            ChecksumError: Its plan was cut or changed.
        """
        hint = "merino-edge build {}".format(shlex.quote(bundle_path))
        try:
            found = self.find(key)
        except FormatError as error:
            error.hint = hint + " --force"
            raise
        if found is not None:
            return found
        others = self.mismatches(key, bundle_name)
        if not others:
            raise EngineError("no engine was built here for {}.".format(bundle_path), hint=hint)
        raise EngineError(
            "no engine in the cache fits this machine and bundle: {}.".format(
                "; ".join(others[0].reasons)
            ),
            note="{} of this graph or bundle in {}.".format(len(others), self.folder),
            hint=hint,
        )

    def mismatches(self, key: EngineKey, bundle_name: str = "") -> List[Mismatch]:
        """Engines of this graph, or of a bundle of this name, that do not fit; nearest first."""
        found = []
        for entry in self.list():
            record = entry.record
            if record is None:
                continue
            reasons = differences(record.key, key)
            same_graph = record.key.onnx_sha256 == key.onnx_sha256
            if reasons and (same_graph or (bundle_name and record.bundle_name == bundle_name)):
                found.append(Mismatch(record, reasons))
        return sorted(found, key=lambda mismatch: len(mismatch.reasons))

    def list(self) -> List[Entry]:
        """All engines, by name of their files; sizes are checked, checksums are not."""
        paths = sorted(glob.glob(os.path.join(glob.escape(self.folder), "*.json")))
        return [entry_at(path) for path in paths]

    def incoming(self, key: EngineKey) -> str:
        """Where a plan for this key may be built, on the cache's own disk; makes the folder."""
        os.makedirs(self.folder, exist_ok=True)
        return os.path.join(self.folder, ".{}-{}.incoming".format(key.engine_id, os.getpid()))

    def timing_cache_path(self, key: EngineKey) -> str:
        """The timing cache for this TensorRT and GPU."""
        return os.path.join(self.folder, timing_cache_name(key.tensorrt, key.compute_capability))

    def store(self, plan_path: str, record: EngineRecord) -> Found:
        """Take a plan in; ``record.plan_file`` is set here.

        Args:
            plan_path: From ``incoming``; it is moved.
            record: With the key, and with size and checksum of the plan.

        Raises:
            ChecksumError: The plan is not the one that the record describes.
            OSError: The disk is full or the folder cannot be written; the old engine is intact.
        """
        check_plan(plan_path, record)
        engine_id, path = record.key.engine_id, self._record_path(record.key)
        name = "{}-{}.plan".format(engine_id, record.plan_sha256[:16])
        stored = record._replace(plan_file=name)
        old = entry_at(path).record if os.path.exists(path) else None
        os.replace(plan_path, os.path.join(self.folder, name))
        try:
            jsonio.write_record(path, SCHEMA, stored)
        except OSError:
            self._sweep(engine_id, old.plan_file if old else "")
            raise
        self._sweep(engine_id, name)
        return Found(os.path.join(self.folder, name), stored, [])

    def mark_verified(self, key: EngineKey, verification: Verification) -> EngineRecord:
        """Write down that the engine was tried.

        Raises:
            FormatError: There is no record for this key.
        """
        path = self._record_path(key)
        record = read_entry_record(path)._replace(verified=verification)
        jsonio.write_record(path, SCHEMA, record)
        return record

    def remove(self, key: EngineKey) -> None:
        """Forget an engine: the record first, since a plan alone does not count."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._record_path(key))
        if os.path.isdir(self.folder):
            self._sweep(key.engine_id, "")

    def _record_path(self, key: EngineKey) -> str:
        return os.path.join(self.folder, key.engine_id + ".json")

    def _sweep(self, engine_id: str, keep: str) -> None:
        """Delete plans of this engine that no record names, and what dead builds left."""
        for name in os.listdir(self.folder):
            left = re.match(r"^\.{}-(\d+)\.incoming".format(engine_id), name)
            old = name.startswith(engine_id + "-") and name.endswith(".plan") and name != keep
            if old or (left and not _is_alive(int(left.group(1)))):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self.folder, name))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
