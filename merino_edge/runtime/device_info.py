"""What machine is this? Read from files that Linux and NVIDIA's boards keep, and from nothing else.

The one idea: everything is read below ``root``, so to a test a recorded tree of such files *is* a
machine. A missing file gives None; no daemon, no privilege and no vendor library is needed.
"""

import glob
import importlib
import importlib.util
import os
import platform
import re
from typing import Any, Dict, List, Optional

from merino_edge.formats.measurement import DeviceInfo

PACKAGES = ("numpy", "onnxruntime", "tokenizers")
# L4T revision -> JetPack, for Python 3.6 boards; what is not listed is not guessed.
JETPACKS = {
    "32.6.1": "4.6", "32.7.1": "4.6.1", "32.7.2": "4.6.2", "32.7.3": "4.6.3", "32.7.4": "4.6.4",
    "32.7.5": "4.6.5", "32.7.6": "4.6.6",
}  # fmt: skip


def device_info(root: str = "/", machine: Optional[str] = None) -> DeviceInfo:
    """Describe the machine below ``root``.

    Args:
        root: Where its file system begins.
        machine: Instruction set, if not that of this process.
    """
    machine = machine or platform.machine()
    cpu = _cpu_name(root) or machine
    l4t = l4t_version(root)
    return DeviceInfo(
        model=board_model(root) or cpu,
        machine=machine,
        cpu=cpu,
        n_cores=_n_cores(root),
        memory_bytes=meminfo_bytes(root).get("MemTotal", 0),
        last_cache_bytes=_last_cache_bytes(root),
        os=_os_name(root),
        python=platform.python_version(),
        packages={n: v for n, v in package_versions(PACKAGES).items() if v is not None},
        l4t=l4t,
        jetpack=JETPACKS.get(l4t or ""),
        tensorrt=_library_version(root, "libnvinfer.so.*"),
        cuda=_cuda_version(root),
    )


def read_text(root: str, path: str) -> Optional[str]:
    """A file below ``root``, without blanks and zero bytes around it; None if unreadable."""
    try:
        with open(os.path.join(root, path.lstrip("/")), "rb") as stream:
            return stream.read().decode("utf-8", "replace").strip(" \t\n\0")
    except OSError:
        return None


def find(root: str, pattern: str) -> List[str]:
    """Paths below ``root`` that match, as they would be from /, sorted."""
    found = glob.glob(os.path.join(root, pattern.lstrip("/")))
    return sorted("/" + os.path.relpath(path, root) for path in found)


def board_model(root: str) -> Optional[str]:
    """Such as "NVIDIA Jetson Nano Developer Kit"; None on a PC."""
    return read_text(root, "/proc/device-tree/model") or None


def l4t_version(root: str) -> Optional[str]:
    """NVIDIA's Linux, such as "32.7.1", from "# R32 (release), REVISION: 7.1, ..."."""
    text = read_text(root, "/etc/nv_tegra_release") or ""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return "{}.{}".format(*match.groups()) if match else None


def meminfo_bytes(root: str) -> Dict[str, int]:
    """/proc/meminfo in bytes: MemTotal, MemAvailable, SwapTotal and others."""
    pairs = re.findall(r"^(\w+):\s+(\d+) kB", read_text(root, "/proc/meminfo") or "", re.MULTILINE)
    return {name: int(kilobytes) * 1024 for name, kilobytes in pairs}


def cpu_features(root: str) -> List[str]:
    """Flags of the first core: "avx2" and its like on x86, "asimd" and its like on ARM."""
    match = re.search(r"^(?:flags|Features)\s*: (.*)$", _cpuinfo(root), re.MULTILINE)
    return match.group(1).split() if match else []


def power_mode(root: str) -> Optional[str]:
    """nvpmodel's mode by name ("MAXN"), or by number where its names are not readable."""
    status = re.search(r"pmode:(\d+)", read_text(root, "/var/lib/nvpmodel/status") or "")
    if status is None:
        return None
    number = int(status.group(1))
    conf = read_text(root, "/etc/nvpmodel.conf") or ""
    names = re.findall(r"<\s*POWER_MODEL ID=(\d+) NAME=(\w+)\s*>", conf)
    by_number: Dict[int, str] = {int(i): name for i, name in names}
    return by_number.get(number, str(number))


def hottest_c(root: str) -> Optional[float]:
    """The hottest CPU or GPU sensor; zones go by type, as kernels number them differently."""
    temperatures = []
    for zone in find(root, "/sys/class/thermal/thermal_zone*"):
        kind = (read_text(root, zone + "/type") or "").lower()
        value = read_text(root, zone + "/temp") or ""
        # PMIC-Die of a Nano always reads 100 C; offline sensors of others read -256
        if re.search("cpu|gpu|soc|pkg|k10temp", kind) and re.match(r"^\d+$", value):
            temperatures.append(int(value) / 1000.0)
    return max(temperatures) if temperatures else None


def package_versions(names: Any) -> Dict[str, Optional[str]]:
    """Installed versions by name, without importing the packages; None for what is missing."""
    return {name: _package_version(name) for name in names}


def is_installed(name: str) -> bool:
    """Whether a module can be imported; a mere folder of its name on the path is none."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.has_location


def _package_version(name: str) -> Optional[str]:
    try:
        # by name, because Python 3.6 and 3.7 do not have it
        return str(importlib.import_module("importlib.metadata").version(name))
    except ModuleNotFoundError as error:  # PackageNotFoundError is one too
        if "importlib" not in str(error):
            return None
    try:
        return str(importlib.import_module("pkg_resources").get_distribution(name).version)
    except Exception:  # DistributionNotFound, or no setuptools on this board
        return None


def _cpuinfo(root: str) -> str:
    return read_text(root, "/proc/cpuinfo") or ""


def _cpu_name(root: str) -> Optional[str]:
    """x86 names its processor; ARM gives numbers, of which the common parts are named here."""
    match = re.search(r"^model name\s*: (.*)$", _cpuinfo(root), re.MULTILINE)
    if match:
        return match.group(1).strip()
    part = re.search(r"^CPU part\s*: (0x[0-9a-f]+)$", _cpuinfo(root), re.MULTILINE)
    parts = {"0xd07": "Cortex-A57", "0xd08": "Cortex-A72", "0xd42": "Cortex-A78AE"}
    return parts.get(part.group(1), "ARM part " + part.group(1)) if part else None


def _n_cores(root: str) -> int:
    if os.path.realpath(root) == "/" and hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))  # what a container may use, not what the board has
    return max(1, len(re.findall(r"^processor\s*:", _cpuinfo(root), re.MULTILINE)))


def _last_cache_bytes(root: str) -> Optional[int]:
    units = {"": 1, "K": 1024, "M": 1024**2}
    sizes = [
        re.match(r"^(\d+)([KM]?)$", read_text(root, path) or "")
        for path in find(root, "/sys/devices/system/cpu/cpu0/cache/index*/size")
    ]
    values = [int(size.group(1)) * units[size.group(2)] for size in sizes if size]
    return max(values) if values else None


def _os_name(root: str) -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', read_text(root, "/etc/os-release") or "", re.M)
    return match.group(1) if match else platform.system()


def _library_version(root: str, pattern: str) -> Optional[str]:
    """The longest version among "libnvinfer.so.8", "libnvinfer.so.8.2.1"."""
    folders = ("/usr/lib/aarch64-linux-gnu/", "/usr/lib/x86_64-linux-gnu/")
    paths = [path for folder in folders for path in find(root, folder + pattern)]
    versions = [path.rpartition(".so.")[2] for path in paths]
    return max(versions, key=len) if versions else None


def _cuda_version(root: str) -> Optional[str]:
    text = read_text(root, "/usr/local/cuda/version.txt")
    text = text or read_text(root, "/usr/local/cuda/version.json") or ""
    match = re.search(r'CUDA Version ([\d.]+)|"cuda"[^}]*"version"\s*:\s*"([\d.]+)"', text)
    return (match.group(1) or match.group(2)) if match else None
