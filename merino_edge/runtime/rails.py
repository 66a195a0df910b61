"""Where a board says how much power it takes: the rails of its INA3221, read from sysfs.

The one idea: a rail is a name and one or two files, whose product is its power. The kernel of
JetPack 4 (iio) tells milliwatts; that of JetPack 5 and later (hwmon) tells millivolts and
milliamperes. Only the rail that feeds the whole module counts as the power of the board: what is
missing from a sum of parts, nobody knows.

All is read below ``root``, so to a test a tree of files is a board. Nothing is sampled here and
nothing is added up over time; and a value that cannot be read is None, never zero.
"""

import re
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from merino_edge.runtime.device_info import find, read_text

# The input of the module: the Nano's, and that of TX2, Xavier NX, Orin NX and Orin Nano.
INPUTS = ("POM_5V_IN", "VDD_IN")
_CHIPS = ("/sys/bus/i2c/devices/*/", "/sys/bus/i2c/drivers/ina3221*/*/")


class Rail(NamedTuple):
    """A supply that is measured.

    Attributes:
        name: As the board calls it, such as "POM_5V_GPU".
        paths: Files whose product is the power.
        per_watt: What that product is at one watt.
    """

    name: str
    paths: Tuple[str, ...]
    per_watt: float


class PowerSource(NamedTuple):
    """Something that tells the power of the whole board.

    Attributes:
        name: For people: the rail, and by whom where it is not the kernel.
        read_w: Watts now; None where it does not answer.
        close: Is called once, at the end.
    """

    name: str
    read_w: Callable[[], Optional[float]]
    close: Callable[[], None]


def find_rails(root: str = "/") -> List[Rail]:
    """All rails that the kernel shows, by name, each once."""
    found: Dict[str, Rail] = {}
    for chip in _CHIPS:
        for rail in _iio_rails(root, chip) + _hwmon_rails(root, chip):
            found.setdefault(rail.name, rail)
    return [found[name] for name in sorted(found)]


def input_rail(rails: List[Rail]) -> Optional[Rail]:
    """The rail that feeds the whole module; None where none is known to."""
    by_name = {rail.name: rail for rail in rails}
    return next((by_name[name] for name in INPUTS if name in by_name), None)


def read_w(root: str, rail: Rail) -> Optional[float]:
    """Watts that a rail carries now; None where a file is gone or holds no number."""
    product = 1.0
    for path in rail.paths:
        text = read_text(root, path) or ""
        if not re.match(r"^-?\d+$", text):
            return None
        product *= int(text)
    return product / rail.per_watt


def sysfs_source(root: str = "/") -> Optional[PowerSource]:
    """The input rail of this board, as the kernel shows it; None where it shows none.

    A running board takes more than nothing, so zero and less count as no answer.
    """
    rail = input_rail(find_rails(root))
    if rail is None:
        return None
    known = rail  # mypy forgets in the function below what was checked here

    def positive_w() -> Optional[float]:
        watts = read_w(root, known)
        return watts if watts is not None and watts > 0.0 else None

    return PowerSource(rail.name, positive_w, _nothing)


def _iio_rails(root: str, chip: str) -> List[Rail]:
    """JetPack 4: ``rail_name_0`` beside ``in_power0_input``, in milliwatts."""
    rails = []
    for path in find(root, chip + "iio*device*/rail_name_*"):
        folder, _, name_file = path.rpartition("/")
        channel = name_file[len("rail_name_") :]
        power = "{}/in_power{}_input".format(folder, channel)
        name = read_text(root, path)
        if name and read_text(root, power) is not None:
            rails.append(Rail(name, (power,), 1e3))
    return rails


def _hwmon_rails(root: str, chip: str) -> List[Rail]:
    """JetPack 5 and later: ``in1_label`` beside ``in1_input`` (mV) and ``curr1_input`` (mA).

    Channels without a current of their own are no rails: ``in7`` is a sum of shunt voltages. "NC"
    is a channel that is not connected.
    """
    rails = []
    for path in find(root, chip + "hwmon/hwmon*/in*_label"):
        folder, _, label_file = path.rpartition("/")
        channel = label_file[len("in") : -len("_label")]
        pair = ("{}/in{}_input".format(folder, channel), "{}/curr{}_input".format(folder, channel))
        name = read_text(root, path)
        if name and name != "NC" and all(read_text(root, each) is not None for each in pair):
            rails.append(Rail(name, pair, 1e6))
    return rails


def _nothing() -> None:
    pass
