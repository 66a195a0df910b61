"""What a measurement has found so far, on disk: a header, and a line for each probe of each round.

The one idea: a line is synced before the next probe is timed, so a power cut costs no more than the
probe that was being timed. A last line that was cut off is dropped; a header says what the lines
belong to, and nothing else is added to them. Not known here: how anything is timed.
"""

import json
import os
from typing import Any, Dict, List, NamedTuple, Optional

from merino_edge.errors import FormatError, UsageError
from merino_edge.formats import jsonio
from merino_edge.formats.latency_table import Setting
from merino_edge.formats.measurement import DeviceInfo

JOURNAL = "measured.jsonl"
SCHEMA = "merino-edge.profile-journal/1"


class Line(NamedTuple):
    """One probe in one round.

    Attributes:
        probe: Its ``arch_id``.
        round: From 0.
        ms: Workload -> milliseconds.
        beside_ms: Workload -> what the anchor took beside it, a token or its prompt.
        throttled: The device said that it throttles.
        others_cpu_share: Of all cores, used by other processes meanwhile.
        energy_mj: Workload -> millijoules of one call, idle power included; empty where no rail
            is known.
        peak_rss_bytes: Of this process, so far.
        idle_w: What the board took before all began, with nothing running.
    """

    probe: str
    round: int
    ms: Dict[str, float]
    beside_ms: Dict[str, float]
    throttled: bool = False
    others_cpu_share: Optional[float] = None
    energy_mj: Dict[str, float] = {}
    peak_rss_bytes: Optional[int] = None
    idle_w: Optional[float] = None


class Header(NamedTuple):
    """The journal's first line: what its other lines belong to."""

    schema: str
    begun: str
    probes: Dict[str, Any]
    setting: Setting
    device: DeviceInfo


class Journal:
    """The lines of a measurement, on disk.

    Args:
        folder: Is made if it is not there.
        header: What is being measured.

    Raises:
        UsageError: The folder holds a measurement of something else.
        FormatError: A line is damaged.
    """

    def __init__(self, folder: str, header: Header):
        os.makedirs(folder, exist_ok=True)
        self.path = os.path.join(folder, JOURNAL)
        self.header = header
        self.lines: List[Line] = []
        if os.path.isfile(self.path):
            self._take_up()
        if not os.path.isfile(self.path) or not os.path.getsize(self.path):
            self._append(jsonio.encode(header))

    def add(self, line: Line) -> None:
        """Keep a line; it is on the disk when this returns."""
        self._append(jsonio.encode(line))
        self.lines.append(line)

    def _append(self, document: Any) -> None:
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(document, sort_keys=True) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _take_up(self) -> None:
        """Read what is there; a last line that was cut off is dropped."""
        with open(self.path, "rb") as stream:
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            jsonio.write_bytes_atomic(self.path, whole)
        documents = [_parsed(text, self.path, i) for i, text in enumerate(whole.splitlines())]
        if not documents:
            return
        found = jsonio.decode(Header, documents[0], self.path, "line 1")
        _refuse_another(found, self.header, self.path)
        self.header = found
        self.lines = [
            jsonio.decode(Line, document, self.path, "line {}".format(i + 2))
            for i, document in enumerate(documents[1:])
        ]


def _parsed(text: bytes, path: str, index: int) -> Any:
    try:
        return json.loads(text.decode("utf-8"))
    except ValueError as error:
        raise FormatError(
            "line {} is not JSON: {}.".format(index + 1, error),
            path,
            hint="delete the folder to begin anew.",
        )


def _refuse_another(found: Header, mine: Header, path: str) -> None:
    """A journal goes on only with the same probes, on the same device, in the same setting."""
    pairs = [
        ("probes", found.probes, mine.probes),
        ("setting", found.setting, mine.setting),
        ("device", found.device.model, mine.device.model),
        ("processor", found.device.cpu, mine.device.cpu),
    ]
    different = [name for name, one, other in pairs if one != other]
    if different:
        raise UsageError(
            "'{}' belongs to another measurement: its {} {} not this one's.".format(
                path, " and ".join(different), "is" if len(different) == 1 else "are"
            ),
            hint="measure as before, or begin anew with --force.",
        )
