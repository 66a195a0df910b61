"""What a building child and its parent say to each other: a request in, JSON lines out.

The one idea: an error crosses the border between the processes as itself, with its class, its
numbers and its exit code. A line of the child is ``{"kind": "line" | "report" | "error" |
"os_error", ...}``.
"""

import json
import os
from typing import Any, Dict, List, NamedTuple

from merino_edge import errors
from merino_edge.formats import jsonio
from merino_edge.runtime.engine.preflight import FLOOR_BYTES
from merino_edge.runtime.engine.request import BuildRequest

PARTIAL = ".part"


class ChildRequest(NamedTuple):
    """What a child shall do.

    Attributes:
        build: What to build.
        plan_path: Where the plan shall stand when it is whole.
        parent_pid: Of the process that waits; the child ends with it.
        floor_bytes: Available memory below which the child warns.
    """

    build: BuildRequest
    plan_path: str
    parent_pid: int
    floor_bytes: int = FLOOR_BYTES


class PlanReport(NamedTuple):
    """What a child made, as far as it cannot be seen from outside.

    Attributes:
        plan_sha256, plan_bytes: Of the file.
        tensorrt: Version that built it.
        build_s: From parsing to the plan.
        peak_rss_bytes: Most resident memory of the child.
        available_before_bytes, lowest_available_bytes: Memory of the machine.
        n_skipped_tactics: Tactics that were not tried for lack of memory.
        n_fp32_layers: Layers held to float32.
        warnings: Ours and TensorRT's.
        memory_log: TensorRT's lines about memory.
    """

    plan_sha256: str
    plan_bytes: int
    tensorrt: str
    build_s: float
    peak_rss_bytes: int
    available_before_bytes: int
    lowest_available_bytes: int
    n_skipped_tactics: int
    n_fp32_layers: int
    warnings: List[str]
    memory_log: List[str]


def packed(kind: str, **fields: Any) -> bytes:
    """One line of the child."""
    return json.dumps(dict(fields, kind=kind)).encode("ascii") + b"\n"


def error_fields(error: Exception) -> Dict[str, Any]:
    """What ``revived`` needs."""
    if isinstance(error, OSError):
        return {"kind": "os_error", "errno": error.errno, "words": error.strerror or str(error),
                "path": str(error.filename or "")}  # fmt: skip
    return {"kind": "error", "type": type(error).__name__, "fields": vars(error)}


def revived(message: Dict[str, Any]) -> Exception:
    """The error that a child met, to be raised by its parent."""
    if message["kind"] == "os_error":
        return OSError(message["errno"], message["words"], message["path"] or None)
    kind = getattr(errors, message["type"])
    error: Exception = kind.__new__(kind, message["fields"]["message"])
    vars(error).update(message["fields"])
    return error


def read_request(path: str) -> ChildRequest:
    """The request in a file.

    Raises:
        FormatError: It is not one.
    """
    request: ChildRequest = jsonio.decode(ChildRequest, jsonio.read_json(path), path)
    return request


def partial_path(plan_path: str) -> str:
    """Where a plan stands while it is written."""
    return os.path.abspath(plan_path) + PARTIAL
