"""Does the board hold its clocks back? What the kernel says about heat and supply, read twice.

The one idea: what limits a clock says so itself. A *cooling device* that is not a fan has a state
above zero while it limits; counters of over-current and under-voltage rise each time the supply
gave in, however short that was, so they are compared before and after. Where clocks are pinned
(least = most, as ``jetson_clocks`` does), one that runs below its pin is held back too; where they
are free, a low clock says nothing, for it may only be idle. The temperature against the passive
trip point counts only where no cooling device is shown: a governor of heat may begin earlier, or
later, than a trip.

Turbo clocks of x86 are left out: nothing there promises that the highest can be held. Nothing is
known here of power or of timing; a board that tells nothing gives None, "not known".
"""

import re
from typing import List, NamedTuple, Optional

from merino_edge.runtime.device_info import find, read_text

# Jetson Nano and TX: cpu-balanced, gpu-balanced, tegra-balanced, *-heavy. Orin, Thor:
# cpu-throttle-alert and its like. Any kernel: cpufreq-cpu0, thermal-cpufreq-0, devfreq-...
# "hot-surface-alert" warns of a hot heat sink and limits nothing; "pwm-fan" is a fan.
_LIMITS_A_CLOCK = re.compile(r"throttle|balanced|heavy|cpufreq|devfreq", re.IGNORECASE)
_TURBO_DRIVER = re.compile(r"pstate|acpi|intel|amd|powernow|pcc", re.IGNORECASE)
_EDP_INTERRUPTS = re.compile(r"^ *\d+:((?: +\d+)+) .*soctherm_edp", re.MULTILINE)
_PIN_SLACK = 0.95  # clocks are reported in steps, and some drivers read a counter


class Signs(NamedTuple):
    """One look at what the board says.

    Attributes:
        told: Whether it tells anything at all.
        limited: Names of what limits a clock now, for people; empty if nothing does.
        n_events: Over-currents and under-voltages since it was switched on; 0 where not counted.
        max_khz: The highest clock that is allowed, summed over the cores; 0 where not shown.
    """

    told: bool
    limited: List[str]
    n_events: int
    max_khz: int


def signs(root: str = "/") -> Signs:
    """Look now."""
    cooling = _cooling(root)
    pinned = _pinned(root)
    trips = [] if cooling else _trips(root)
    counters = _counters(root)
    sources = cooling + pinned + trips
    return Signs(
        told=bool(sources or counters),
        limited=[source.name for source in sources if source.limits],
        n_events=sum(counters),
        max_khz=sum(_numbers(root, "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_max_freq")),
    )


def throttled(root: str = "/") -> Optional[bool]:
    """Whether something limits a clock at this moment; None where the board does not tell."""
    now = signs(root)
    return bool(now.limited) if now.told else None


def throttled_between(before: Signs, after: Signs) -> Optional[bool]:
    """Whether clocks were held back at one of two looks, or between them; None where not told."""
    if not (before.told or after.told):
        return None
    lowered = 0 < after.max_khz < before.max_khz
    return bool(before.limited or after.limited or lowered) or after.n_events > before.n_events


class _Source(NamedTuple):
    """One thing that can say that it limits."""

    name: str
    limits: bool


def _cooling(root: str) -> List[_Source]:
    found = []
    for device in find(root, "/sys/class/thermal/cooling_device*"):
        kind = read_text(root, device + "/type") or ""
        state = _number(root, device + "/cur_state")
        if _LIMITS_A_CLOCK.search(kind) and state is not None:
            found.append(_Source(kind, state > 0))
    return found


def _pinned(root: str) -> List[_Source]:
    """Cores whose least clock is their most, and whether they run below it."""
    found = []
    for folder in find(root, "/sys/devices/system/cpu/cpu[0-9]*/cpufreq"):
        least, most, now = (
            _number(root, "{}/scaling_{}_freq".format(folder, name))
            for name in ("min", "max", "cur")
        )
        if least is None or most is None or now is None or least != most:
            continue
        if not _TURBO_DRIVER.search(read_text(root, folder + "/scaling_driver") or ""):
            name = "{} at {:.0f} of {:.0f} MHz".format(folder.split("/")[-2], now / 1e3, most / 1e3)
            found.append(_Source(name, now < _PIN_SLACK * most))
    return found


def _trips(root: str) -> List[_Source]:
    """Zones of CPU and GPU (the PMIC of a Nano always reads 100 C) against their passive trips."""
    found = []
    for path in find(root, "/sys/class/thermal/thermal_zone*/trip_point_*_type"):
        zone, _, name = path.rpartition("/")
        kind = read_text(root, zone + "/type") or ""
        at = _number(root, "{}/{}_temp".format(zone, name[: -len("_type")]))
        now = _number(root, zone + "/temp")
        passive = read_text(root, path) == "passive" and re.search("cpu|gpu|soc", kind.lower())
        if passive and now is not None and at is not None and at > 0:  # 0 is "not set"
            found.append(_Source("{} at {:.0f} C".format(kind, now / 1e3), now >= at))
    return found


def _counters(root: str) -> List[int]:
    """Over-current events: of Orin and later in hwmon, of the Nano as interrupts of soctherm."""
    found = _numbers(root, "/sys/class/hwmon/hwmon*/oc[0-9]*_event_cnt")
    # " 67:  0  0  0  0  GICv2  83 Level  soctherm_edp", a column for each core
    for cores in _EDP_INTERRUPTS.findall(read_text(root, "/proc/interrupts") or ""):
        found.append(sum(int(count) for count in cores.split()))
    return found


def _numbers(root: str, pattern: str) -> List[int]:
    values = [_number(root, path) for path in find(root, pattern)]
    return [value for value in values if value is not None]


def _number(root: str, path: str) -> Optional[int]:
    text = read_text(root, path) or ""
    return int(text) if re.match(r"^-?\d+$", text) else None
