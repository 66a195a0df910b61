"""What came back from the board: a report for scripts, a card for people, an error if it failed.

The one idea: the board's own result is kept as it is, and around it stands what only the
workstation knows (which board, what was copied, how often the connection broke). Both the report
and the log lie *beside* the bundle, since a bundle vouches for every file in it.
"""

import json
import os
from dataclasses import dataclass
from typing import Any

from merino_edge.errors import BoardError
from merino_edge.formats import jsonio
from merino_edge.pipeline.quantities import human
from merino_edge.pipeline.remote.failures import Ended, failure

SCHEMA = "merino-edge.board-report/1"


@dataclass(frozen=True)
class RemoteReport:
    """A build on a board.

    Attributes:
        host: The board, as the user wrote it.
        bundle_id: What was built.
        folder: The bundle there.
        device: What the board says of itself.
        merino_edge: Version there.
        copied_bytes: Sent over the connection.
        skipped_bytes: Were there already.
        copy_s: Seconds of copying.
        build_s: Seconds of building, by the board's clock.
        n_breaks: How often the connection broke.
        attached: Whether the build had been started by an earlier call.
        exit_code: Of the board's build.
        result: What the board's ``build --json`` printed; None if that is not JSON.
    """

    host: str
    bundle_id: str
    folder: str
    device: dict[str, Any]
    merino_edge: str
    copied_bytes: int
    skipped_bytes: int
    copy_s: float
    build_s: int
    n_breaks: int
    attached: bool
    exit_code: int
    result: Any

    def card(self) -> list[str]:
        """Lines for a person."""
        model = self.device.get("model", "unknown")
        parts = ((n, self.device.get(n.lower())) for n in ("JetPack", "TensorRT", "CUDA"))
        versions = [f"{name} {version}" for name, version in parts if version]
        copied = f"{human(self.copied_bytes, 'B')} copied in {self.copy_s:.0f} s"
        lines = {
            "board": ", ".join([f"{self.host} ({model})", *versions]),
            "bundle": f"{self.folder}: {copied}, {human(self.skipped_bytes, 'B')} were there",
            "built": f"in {self.build_s} s" + (", by an earlier call" * self.attached),
            **_scalars(self.result),
        }
        width = max(len(name) for name in lines)
        return [f"{name.ljust(width)}  {text}" for name, text in lines.items()]


def report_paths(bundle_path: str) -> tuple[str, str]:
    """Where the report and the log of a bundle's build on a board go."""
    stem = os.path.normpath(bundle_path)
    return stem + ".board-report.json", stem + ".board-log.txt"


def write_report(bundle_path: str, report: RemoteReport, log: str) -> None:
    """Write both beside the bundle, atomically.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    report_path, log_path = report_paths(bundle_path)
    jsonio.write_bytes_atomic(log_path, log.encode("utf-8"))
    jsonio.write_record(report_path, SCHEMA, report)


def parse_result(text: str) -> Any:
    """The board's JSON, or None."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def check(report: RemoteReport, log: str, log_path: str) -> None:
    """Raise what the board's build failed with.

    Raises:
        BoardBuildError: It failed; has the exit code that it had there.
        StoppedError: It was cancelled.
        BoardError: It succeeded, but what it printed is no JSON object.
    """
    if report.exit_code == 0:
        if isinstance(report.result, dict):
            return
        raise BoardError(
            f"the build on '{report.host}' ended well, but its answer is not JSON.",
            f"merino-edge there is {report.merino_edge}; the log is {log_path}.",
        )
    raise failure(Ended("build", report.host, report.exit_code, log, log_path))


def _scalars(result: Any) -> dict[str, str]:
    """What of the board's result fits on a line each."""
    items = result.items() if isinstance(result, dict) else ()
    return {key: str(value) for key, value in items if isinstance(value, (str, int, float))}
