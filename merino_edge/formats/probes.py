"""The decoders that a device is asked to time: which, what for, and where their bundles lie.

The one idea: a probe is a whole decoder in an ordinary bundle with random weights, made by the code
that makes real ones, so what it takes is what a real one of that shape takes. The set travels as a
folder: ``probes.json`` and one bundle for each probe, named by its ``arch_id``.
"""

import os
from typing import Any, Dict, List, NamedTuple

from merino_edge.errors import FormatError, SpecError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.latency_table import check_roles

SCHEMA = "merino-edge.probes/1"
PROBES_FILE = "probes.json"
BURST = (
    16  # tokens of a decode sample; it begins half of them before the length that it is named by
)


class _Fields(NamedTuple):
    space: str
    seed: int
    target: str
    precision: str
    context_len: int
    lengths: List[int]
    anchor: str
    architectures: Dict[str, Architecture]
    roles: Dict[str, str]


class ProbeSet(_Fields):
    """What to time.

    Attributes:
        space: Name of the space that the probes stand for.
        seed: Of the draw.
        target: Name of the target that the bundles are built for.
        precision: Of their matrices.
        context_len: Tokens that their caches hold.
        lengths: Tokens in the cache at the middle of a burst; ascending.
        anchor: ``arch_id`` of the probe that is timed beside every other one.
        architectures: ``arch_id`` -> architecture.
        roles: ``arch_id`` -> "fit" or "held_out".

    Raises:
        SpecError: The lengths do not fit, or names do not agree.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **fields: Any) -> "ProbeSet":
        """Make and check it."""
        self = super().__new__(cls, *args, **fields)
        check_roles(self.architectures, self.roles)
        if self.anchor not in self.architectures:
            raise SpecError("is {!r}, which is no probe.".format(self.anchor), field="anchor")
        ends = [BURST] + [length + BURST // 2 for length in self.lengths] + [self.context_len]
        if not self.lengths or any(after <= before for before, after in zip(ends, ends[1:-1])):
            raise SpecError("are {}, must ascend.".format(self.lengths), field="lengths")
        if ends[-2] > self.context_len:
            raise SpecError(
                "are {}; with a burst of {} the last does not fit a context of {}.".format(
                    self.lengths, BURST, self.context_len
                ),
                field="lengths",
            )
        return self


def probe_folder(folder: str, name: str) -> str:
    """Where the bundle of a probe lies."""
    return os.path.join(folder, name)


def prompt_len(length: int) -> int:
    """Tokens of the prompt before a burst whose middle is at ``length``."""
    return length - BURST // 2


def write_probes(folder: str, probes: ProbeSet) -> None:
    """Write ``probes.json``; last, so that a folder that has it has all bundles."""
    jsonio.write_record(os.path.join(folder, PROBES_FILE), SCHEMA, probes)


def read_probes(folder: str) -> ProbeSet:
    """Read ``probes.json`` of a folder.

    Raises:
        FormatError: There is none, or it is not what it claims.
    """
    path = os.path.join(folder, PROBES_FILE)
    if not os.path.isfile(path):
        raise FormatError(
            "there are no probes in it.", folder, hint="merino-edge profile --space tiny -o t.json"
        )
    return jsonio.read_record(path, SCHEMA, ProbeSet)
