"""How long decoders take on one device: measured, with all that is needed to doubt it.

The one idea: a row is one architecture at one workload, timed whole. A table holds rows of one
setting only (one device, backend, precision, number of threads), some of them meant for fitting a
model of latency and others kept back to judge it; what the judgement was stands in the same file.
Raw values stay: each row has its samples, one a round, so every average can be made again.

The file carries a digest over its own content. It is no signature; it tells an edited table, or one
that lost a part, from the one that was measured. This module fits nothing and predicts nothing.
"""

import math
from typing import Any, Dict, List, NamedTuple, Optional

from merino_edge.errors import ChecksumError, SpecError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.measurement import Conditions, DeviceInfo, Summary, summarize

SCHEMA = "merino-edge.latency-table/1"
DECODE, PREFILL = "decode", "prefill"
PHASES = (DECODE, PREFILL)
FIT, HELD_OUT = "fit", "held_out"
ROLES = (FIT, HELD_OUT)
MEASURED, PREDICTED = "measured", "predicted"


class Workload(NamedTuple):
    """What is timed.

    Attributes:
        phase: "decode", one token; or "prefill", a prompt from the beginning.
        length: Of decode: tokens in the cache before it. Of prefill: tokens of the prompt.
    """

    phase: str
    length: int

    @property
    def label(self) -> str:
        """Such as ``decode@512``."""
        return "{}@{}".format(self.phase, self.length)

    @classmethod
    def of_label(cls, label: str) -> "Workload":
        """The way back from ``label``.

        Raises:
            SpecError: It is none.
        """
        phase, _, length = label.partition("@")
        if phase not in PHASES or not length.isdigit() or not int(length):
            raise SpecError("{!r} is no workload; decode@512 is one.".format(label))
        return cls(phase, int(length))


class Setting(NamedTuple):
    """What all rows of a table have in common, and another table must have to be merged with it.

    Attributes:
        target: Name of the target that the bundles were built for.
        backend: Which implementation ran, such as "native".
        engine: That implementation in words: kernels, threads, version.
        precision: Of the matrices.
        threads: CPU threads.
        context_len: Tokens that the cache was made for.
        power_mode: The board's; None where it has none.
    """

    target: str
    backend: str
    engine: str
    precision: str
    threads: int
    context_len: int
    power_mode: Optional[str] = None


class LatencyRow(NamedTuple):
    """One architecture at one workload.

    Attributes:
        architecture: Its ``arch_id``.
        workload: As ``Workload.label``.
        samples_ms: One a round, in order, at the anchor's usual speed. A row that is predicted
            has one.
        raw_ms: The same as the clock saw them.
        rounds: Which rounds those were, from 0.
        throttled: A round was taken while the device said that it throttles.
        energy_mj: Millijoules of one call, idle power included; None where none was measured.
        peak_rss_bytes: Most memory of the process; None where it was not measured.
    """

    architecture: str
    workload: str
    samples_ms: List[float]
    raw_ms: List[float]
    rounds: List[int]
    throttled: bool = False
    energy_mj: Optional[float] = None
    peak_rss_bytes: Optional[int] = None

    @property
    def latency_ms(self) -> Summary:
        """Its samples in a few numbers."""
        return summarize(self.samples_ms, "ms")


class PhaseValidation(NamedTuple):
    """How well a model of latency foretold architectures that it was not fitted to, in one phase.

    Attributes:
        n_architectures, n_rows: How many were foretold.
        mape: Mean of the absolute errors, each as a share of what was measured (0.03 is 3 %).
        worst: The largest of them.
        within_5, within_10: Share of rows whose error is at most 5 and 10 %.
        kendall_tau: Rank correlation of foretold and measured (tau-b); over all rows.
        coverage: Share of rows inside the interval that was stated.
        level: The share that the interval promised.
        bias: Mean of the signed errors: above 0, the model foretells too much.
        others: Name of a simpler predictor -> its ``mape`` on the same rows.
    """

    n_architectures: int
    n_rows: int
    mape: float
    worst: float
    within_5: float
    within_10: float
    kendall_tau: float
    coverage: float
    level: float
    bias: float
    others: Dict[str, float] = {}


class _Fields(NamedTuple):
    space: str
    seed: int
    provenance: str
    made_by: str
    begun: str
    setting: Setting
    device: DeviceInfo
    conditions: Conditions
    anchor: str
    anchor_ms: Dict[str, float]
    architectures: Dict[str, Architecture]
    roles: Dict[str, str]
    rows: List[LatencyRow]
    validation: Dict[str, PhaseValidation] = {}
    idle_power_w: Optional[float] = None


class LatencyTable(_Fields):
    """Rows of one setting.

    Attributes:
        space: Name of the space that the probes were drawn from.
        seed: Of that draw.
        provenance: "measured", or "predicted" for a table that no device was asked for.
        made_by: Name and version of the program.
        begun: When, UTC.
        setting: Backend, precision, threads.
        device: The machine.
        conditions: Over the whole measurement.
        anchor: ``arch_id`` of the probe that was timed beside every other one.
        anchor_ms: Phase -> what it took as a rule: the median of the whole measurement.
        architectures: ``arch_id`` -> architecture.
        roles: ``arch_id`` -> "fit" or "held_out".
        rows: Sorted by architecture and workload.
        validation: Phase -> how well the model that is fitted to the rows for fitting foretells
            the rows that were held out; empty where none were.
        idle_power_w: Of the board with nothing running, so that energy above idle is
            ``energy_mj - idle_power_w * ms``; None where no rail was read.

    Raises:
        SpecError: A row has impossible values, or names what is not there.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **fields: Any) -> "LatencyTable":
        """Make and check it."""
        self = super().__new__(cls, *args, **fields)
        _check(self)
        return self

    def replace(self, **changes: Any) -> "LatencyTable":
        """A copy with some fields changed, checked again."""
        fields = dict(self._asdict())
        fields.update(changes)
        return LatencyTable(**fields)

    def rows_of(self, role: str, phase: str) -> List[LatencyRow]:
        """The rows of a role in a phase that were not taken under throttling."""
        return [
            row
            for row in self.rows
            if self.roles[row.architecture] == role
            and Workload.of_label(row.workload).phase == phase
            and not row.throttled
        ]

    @property
    def name(self) -> str:
        """For people: device, backend, precision, threads."""
        return "{}, {} {}, {} thread{}".format(
            self.device.model,
            self.setting.backend,
            self.setting.precision,
            self.setting.threads,
            "" if self.setting.threads == 1 else "s",
        )


def write_table(path: str, table: LatencyTable) -> None:
    """Write a table with its digest, atomically."""
    content = jsonio.encode(table)
    document = {"schema": SCHEMA, "digest": jsonio.digest(content)}
    document.update(content)
    jsonio.write_bytes_atomic(path, jsonio.dumps(document).encode("utf-8"))


def read_table(path: str) -> LatencyTable:
    """Read a table and check every value.

    Raises:
        FormatError: Not a table; an unknown, missing, wrong or impossible value.
        SchemaVersionError: Written by another version.
        ChecksumError: Changed since it was made.
    """
    document = jsonio.read_json(path)
    jsonio.check_schema(document, SCHEMA, path)
    written = document.pop("digest", None)
    table = jsonio.record_from(document, path, SCHEMA, LatencyTable)
    # Of the file, not of the record: fields of a later version do not make old files invalid.
    found = jsonio.digest({key: value for key, value in document.items() if key != "schema"})
    if written != found:
        raise ChecksumError(
            "changed since it was made.",
            path,
            note="its digest is {}, that of its content {}.".format(written, found),
            hint="measure again: merino-edge profile -o {}".format(path),
        )
    return table


def _check(table: LatencyTable) -> None:
    if table.provenance not in (MEASURED, PREDICTED):
        raise SpecError("is {!r}, not measured or predicted.".format(table.provenance),
                        field="provenance")  # fmt: skip
    check_roles(table.architectures, table.roles)
    seen = set()
    for index, row in enumerate(table.rows):
        _check_row(row, table, "rows[{}]".format(index))
        key = row.architecture, row.workload
        if key in seen:
            raise SpecError("is there twice: {} {}.".format(*key), field="rows[{}]".format(index))
        seen.add(key)


def check_roles(architectures: Dict[str, Architecture], roles: Dict[str, str]) -> None:
    """Refuse names that are not those of the architectures, and unknown roles.

    Raises:
        SpecError: With the field.
    """
    for name, architecture in architectures.items():
        if architecture.arch_id != name:
            raise SpecError(
                "is {}.".format(architecture.arch_id), field="architectures.{}".format(name)
            )
    if set(roles) != set(architectures):
        raise SpecError("name other architectures than there are.", field="roles")
    for name, role in roles.items():
        if role not in ROLES:
            raise SpecError(
                "is {!r}, not fit or held_out.".format(role), field="roles.{}".format(name)
            )


def _check_row(row: LatencyRow, table: LatencyTable, field: str) -> None:
    if row.architecture not in table.architectures:
        raise SpecError("{!r} is not in the table.".format(row.architecture),
                        field=field + ".architecture")  # fmt: skip
    try:
        Workload.of_label(row.workload)
    except SpecError as error:
        raise SpecError(error.reason, field=field + ".workload")
    counts = len(row.samples_ms), len(row.raw_ms), len(row.rounds)
    if not row.samples_ms or len(set(counts)) > 1:
        raise SpecError("are {}, of {} raw ones and {} rounds.".format(*counts),
                        field=field + ".samples_ms")  # fmt: skip
    for value in row.samples_ms + row.raw_ms:
        if not (math.isfinite(value) and value > 0.0):
            raise SpecError("hold {}, which is no time.".format(value),
                            field=field + ".samples_ms")  # fmt: skip
    if row.energy_mj is not None and not (math.isfinite(row.energy_mj) and row.energy_mj > 0.0):
        raise SpecError("is {}, which is no energy.".format(row.energy_mj),
                        field=field + ".energy_mj")  # fmt: skip
