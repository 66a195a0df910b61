"""How fast a machine may run now, and what holds it back: mode, clocks, heat and supply.

The one idea: a timing is worth what is known of these. A mode that survived a reboot halves it
unnoticed, free clocks make its first seconds slow, heat and a weak supply its last; so each is
named with its values, and with the command that ends it. The signs of being held back are those
that ``bench`` uses (``throttling``).
"""

import re
from typing import Dict, List, Optional

from merino_edge.runtime import device_info as device
from merino_edge.runtime import throttling
from merino_edge.runtime.doctor.facts import Facts
from merino_edge.runtime.doctor.verdict import Check
from merino_edge.runtime.rails import find_rails, sysfs_source

# Below where boards begin to hold their clocks back (about 97 C on a Nano, 99 on an Orin).
HOT_C = 85.0
_CPU = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq"
_GPU = "/sys/class/devfreq/*.g*"  # 57000000.gpu, 17000000.ga10b


def power_mode(facts: Facts) -> Optional[Check]:
    """nvpmodel's mode against the highest of this board."""
    if not facts.is_jetson:
        return None
    mode = device.power_mode(facts.root) or facts.power_mode
    if mode is None:
        why = "a 5 W mode that survived a reboot would halve every timing unnoticed."
        return Check("power mode", "warn", "not readable", why, "sudo nvpmodel -q")
    modes = _modes(facts.root)
    best = max(modes, key=lambda number: _rank(modes[number]), default=0)
    highest = modes[best] if modes else "MAXN"
    if mode in (highest, str(best)) or mode.startswith("MAXN"):
        return Check("power mode", "ok", mode)
    why = "cores and clocks are limited, also after a reboot; {} is not.".format(highest)
    mend = "sudo nvpmodel -m {} && sudo jetson_clocks".format(best)
    return Check("power mode", "warn", mode, why, mend)


def _modes(root: str) -> Dict[int, str]:
    conf = device.read_text(root, "/etc/nvpmodel.conf") or ""
    pairs = re.findall(r"<\s*POWER_MODEL ID=(\d+) NAME=(\w+)\s*>", conf)
    return {int(number): name for number, name in pairs}


def _rank(name: str) -> float:
    """Modes in the order of what they allow: "7W" < "15W" < "MAXN" <= "MAXN_SUPER"."""
    if name.startswith("MAXN"):
        return 1e6 + len(name)
    watts = re.match(r"^(?:MODE_)?(\d+)W", name)
    return float(watts.group(1)) if watts else 0.0


def clocks(facts: Facts) -> Optional[Check]:
    """Pinned clocks answer at once; free ones first notice that there is work."""
    cpu = _clock(facts.root, _CPU, "scaling_{}_freq", 1e3)
    gpu = _clock(facts.root, _GPU, "{}_freq", 1e6)
    if cpu is None and gpu is None:
        return None
    found = ", ".join(
        "{} {}".format(name, _spoken(clock))
        for name, clock in (("CPU", cpu), ("GPU", gpu))
        if clock
    )
    free = any(clock and clock["min"] < clock["max"] for clock in (cpu, gpu))
    governor = _governor(facts.root)
    found += ", governor {}".format(governor) if governor else ""
    if not free or not facts.is_jetson:
        return Check("clocks", "ok", found)
    why = "the first tokens are slow until the governor notices, and timings spread."
    mend = "sudo jetson_clocks --store && sudo jetson_clocks (back: sudo jetson_clocks --restore)"
    return Check("clocks", "warn", found, why, mend)


def _clock(root: str, folders: str, form: str, per_mhz: float) -> Optional[Dict[str, float]]:
    """The least and the most that is allowed, and now, in MHz, of the first that tells all."""
    for folder in device.find(root, folders):
        texts = {
            name: device.read_text(root, "{}/{}".format(folder, form.format(name))) or ""
            for name in ("min", "max", "cur")
        }
        if all(text.isdigit() for text in texts.values()):
            return {name: int(text) / per_mhz for name, text in texts.items()}
    return None


def _spoken(clock: Dict[str, float]) -> str:
    if clock["min"] >= clock["max"]:
        return "pinned at {:.0f} MHz".format(clock["max"])
    return "{:.0f} MHz of {:.0f} to {:.0f}".format(clock["cur"], clock["min"], clock["max"])


def _governor(root: str) -> Optional[str]:
    for path in device.find(root, _CPU + "/scaling_governor"):
        return device.read_text(root, path)
    return None


def temperature(facts: Facts) -> Optional[Check]:
    """The hottest sensor, and whatever limits a clock at this moment."""
    now_c = device.hottest_c(facts.root)
    now_c = facts.temp_c if now_c is None else now_c
    limited = throttling.signs(facts.root).limited
    if now_c is None and not limited:
        return Check("temperature", "ok", "not shown here") if facts.is_jetson else None
    found = "not shown" if now_c is None else "{:.0f} C, the hottest sensor".format(now_c)
    mend = "sudo jetson_clocks --fan" if facts.is_jetson else ""
    if limited:
        why = "clocks are held back at this moment."
        return Check("temperature", "warn", found + ", limited by " + _few(limited), why, mend)
    if now_c is not None and now_c >= HOT_C:
        why = "clocks will soon be held back; a fan helps, or a cooler place."
        return Check("temperature", "warn", found, why, mend)
    return Check("temperature", "ok", found)


def _few(names: List[str]) -> str:
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")


def supply(facts: Facts) -> Optional[Check]:
    """Whether the supply gave in since the board was switched on; few boards count it."""
    if not facts.is_jetson:
        return None
    n_events = throttling.signs(facts.root).n_events
    if n_events == 0:
        return Check("supply", "ok", "no over-current event counted")
    found = "{} over-current or under-voltage events since the start".format(n_events)
    why = "the supply is too weak for this mode, and clocks were held back each time."
    mend = "a stronger supply (Nano: 5 V 4 A at the barrel jack, jumper J48); else a lower mode"
    return Check("supply", "warn", found, why, mend)


def rails(facts: Facts) -> Optional[Check]:
    """Only boards have them; on the others nobody misses them."""
    names = [rail.name for rail in find_rails(facts.root)]
    source = sysfs_source(facts.root)
    if source is not None:
        parts = [name for name in names if name != source.name]
        found = "input {}{}".format(source.name, ", beside " + ", ".join(parts) if parts else "")
        return Check("power rails", "ok", found)
    if not facts.is_jetson:
        return None
    found = "none of them the input: " + ", ".join(names) if names else "none"
    return Check("power rails", "warn", found, "energy is not measured, unless jtop tells it.")
