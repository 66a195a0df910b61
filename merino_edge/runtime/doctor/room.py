"""Room to work in: memory and who takes it, swap, disk, and the load.

The one idea: a board shares one memory among the system, the desktop, the GPU and the model, so
what is *available* counts and not what is built in; and swap that lies in that memory (zram) is
none for an engine that is being built.
"""

import re
from typing import Optional

from merino_edge.runtime import device_info as device
from merino_edge.runtime.conditions import BUSY_LOAD, snapshot
from merino_edge.runtime.doctor.facts import Facts
from merino_edge.runtime.doctor.verdict import MIB, Check

# Programs of a desktop, as the kernel shortens their names to 15 letters.
_DESKTOP = re.compile(
    r"^(Xorg|gnome-shell|gnome-software|nautilus.*|compiz|unity.*|lxpanel|lxsession|openbox|"
    r"pcmanfm|gdm3|gdm-x-session|lightdm|xfwm4|kwin.*|plasmashell|nvpmodel_indica|update-notifier|"
    r"evolution-.*|ibus-.*|Xwayland)$"
)
_MUCH_DESKTOP_BYTES = 100 * MIB


def memory(facts: Facts) -> Check:
    """What a model may take now."""
    info = device.meminfo_bytes(facts.root)
    available = info.get("MemAvailable", 0)
    found = "{} of {} MiB available".format(available // MIB, info.get("MemTotal", 0) // MIB)
    mend = "sudo systemctl isolate multi-user.target" if facts.is_jetson else "close other programs"
    if available < 256 * MIB:
        return Check("memory", "fail", found, "no model fits.", mend)
    if available < 1024 * MIB:
        return Check("memory", "warn", found, "models above 100 M parameters may not fit.", mend)
    return Check("memory", "ok", found)


def desktop(facts: Facts) -> Optional[Check]:
    """A desktop nobody looks at takes 250 MB (LXDE) to 800 MB (GNOME) of a board's memory."""
    if not facts.is_jetson:
        return None
    resident_bytes, names = 0, []
    for path in device.find(facts.root, "/proc/[0-9]*/comm"):
        name = device.read_text(facts.root, path) or ""
        if _DESKTOP.match(name):
            names.append(name)
            resident_bytes += _resident_bytes(facts.root, path.rpartition("/")[0])
    if not names:
        return Check("desktop", "ok", "none runs")
    found = "{} and {} others hold {} MiB".format(names[0], len(names) - 1, resident_bytes // MIB)
    if resident_bytes < _MUCH_DESKTOP_BYTES:
        return Check("desktop", "ok", found)
    why = "the model shares this memory; shared pages are counted more than once here."
    mend = "sudo systemctl set-default multi-user.target && sudo reboot"
    return Check("desktop", "warn", found, why, mend)


def _resident_bytes(root: str, process: str) -> int:
    text = device.read_text(root, process + "/status") or ""
    match = re.search(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else 0


def swap(facts: Facts) -> Check:
    """Enough on a disk; what is in memory itself is named, and does not count."""
    info = device.meminfo_bytes(facts.root)
    total = info.get("SwapTotal", 0)
    zram = _zram_bytes(facts.root)
    found = "{} MiB{}".format(
        total // MIB, ", of which {} in memory (zram)".format(zram // MIB) if zram else ""
    )
    if info.get("MemTotal", 0) >= 6144 * MIB or total - zram >= 2048 * MIB:
        return Check("swap", "ok", found)
    why = "building an engine on the board needs more than its memory for a moment."
    mend = (
        "sudo fallocate -l 4G /swapfile && sudo chmod 600 /swapfile && "
        "sudo mkswap /swapfile && sudo swapon /swapfile"
    )
    return Check("swap", "warn", found, why, mend)


def _zram_bytes(root: str) -> int:
    """From "/dev/zram0  partition  506364  0  5": sizes in units of 1024 bytes."""
    text = device.read_text(root, "/proc/swaps") or ""
    sizes = re.findall(r"^/dev/zram\d+\s+\S+\s+(\d+)", text, re.MULTILINE)
    return sum(int(size) * 1024 for size in sizes)


def disk(facts: Facts) -> Check:
    """Where bundles will be written."""
    free = facts.free_disk_bytes
    found = "{} MiB free here".format(free // MIB)
    if free < 200 * MIB:
        return Check("disk", "fail", found, "bundles cannot be written.", "df -h . && du -xsh *")
    if free < 2048 * MIB:
        return Check("disk", "warn", found, "a few bundles will fill it.", "df -h . && du -xsh *")
    return Check("disk", "ok", found)


def load(facts: Facts) -> Optional[Check]:
    """Whether others work here now."""
    now = snapshot(facts.root).load
    if now is None:
        return None
    found = "load {:.2f} on {} cores".format(now, facts.device.n_cores)
    if now > BUSY_LOAD * facts.device.n_cores:
        return Check("load", "warn", found, "timings taken now will be off.", "top -o %CPU")
    return Check("load", "ok", found)
