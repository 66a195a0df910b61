"""Will the build fit? A forecast of its memory and disk, before minutes are spent on it.

The one idea: a board has one memory for its CPU and its GPU, and a builder that outgrows it is
killed without a word. So what it will need is added up from the size of the weights and from what
others saw CUDA and its libraries take, and is held against what Linux can give. The forecast errs
on the large side: no decoder's build was measured on a Nano yet, hence ``force``.
"""

import os
import re
from typing import Dict, NamedTuple, Optional

from merino_edge.errors import DeviceMemoryError
from merino_edge.runtime.device_info import meminfo_bytes, read_text

MIB = 1 << 20
OK, TIGHT, REFUSED = "ok", "tight", "refused"

# What a CUDA context takes, as TensorRT 8.2 logs it on a Nano: 197..229 MB
# (tensorrtx #1145, #1160).
CUDA_BYTES = 229 * MIB
# cuBLAS, likewise (182..281 MB of the shared memory); cuDNN would add 241..412 and is off.
CUBLAS_BYTES = 281 * MIB
CUDNN_BYTES = 412 * MIB
# Python with numpy and libnvinfer mapped, before anything is built: an estimate of ours.
PROCESS_BYTES = 100 * MIB
# Free memory that the system should keep; below it a Nano begins to thrash.
RESERVE_BYTES = 150 * MIB
# Below this much available memory the build is warned about while it runs.
FLOOR_BYTES = 200 * MIB
# zram is swap inside the memory itself; two to one is a usual ratio of its compression.
_ZRAM_WORTH = 0.5
# Engine bytes over stored bytes: at most 1.1 here, and some more for what a board's tactics add.
_PLAN_RATIO = 1.3

WHAT_HELPS = (
    "close the desktop (sudo systemctl isolate multi-user.target frees some 800 MB), "
    "add swap (sudo fallocate -l 4G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile "
    "&& sudo swapon /swapfile), or build with a smaller --workspace."
)


class MemoryForecast(NamedTuple):
    """What a build will need and what there is, in bytes.

    Attributes:
        parts: Name -> bytes of each part of the need.
        available_bytes: Memory that programs can have without swapping.
        allocatable_bytes: The same, if idle pages of other programs go to swap first; never more
            than the memory there is, since a GPU cannot use swap itself.
        verdict: "ok", "tight" (it will swap) or "refused".
    """

    parts: Dict[str, int]
    available_bytes: int
    allocatable_bytes: int
    verdict: str

    @property
    def needed_bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(
            "{} {} MB".format(name, n // 10**6) for name, n in self.parts.items() if n
        )
        return "the build will need about {} MB ({}); {} MB are available, {} MB with swap".format(
            self.needed_bytes // 10**6,
            parts,
            self.available_bytes // 10**6,
            self.allocatable_bytes // 10**6,
        )


def build_memory(
    stored_bytes: int, bytes_per_value: int, workspace_bytes: int, cudnn: bool = False
) -> Dict[str, int]:
    """Parts of the memory that a build takes at its peak.

    The network may hold its weights in float32, whatever the file has; the engine holds them in
    half precision beside it, and the plan is the engine once more. Weights
    in half precision thus take four times their size. TensorRT-RTX 1.7.1, the one builder that
    could be measured, took 4.1 times: 733 MB for 127 MB stored, 215 MB of them for a tiny graph.

    Args:
        stored_bytes: Size of the weights file.
        bytes_per_value: Of its values: 2 for float16.
        workspace_bytes: Scratch memory that a layer may use.
        cudnn: Whether tactics of cuDNN are on.
    """
    n_values = stored_bytes // bytes_per_value
    return {
        "network weights": 4 * n_values,
        "engine": 2 * n_values,
        "plan": 2 * n_values,
        "workspace": workspace_bytes,
        "CUDA": CUDA_BYTES,
        "cuBLAS": CUBLAS_BYTES,
        "cuDNN": CUDNN_BYTES if cudnn else 0,
        "process": PROCESS_BYTES,
    }


def forecast_memory(parts: Dict[str, int], root: str = "/") -> MemoryForecast:
    """Hold a need against the memory of the machine below ``root``."""
    memory = meminfo_bytes(root)
    available, total = memory.get("MemAvailable", 0), memory.get("MemTotal", 0)
    # NVIDIA, "CUDA for Tegra": allocatable = MemTotal - max(0, used by the host - free swap).
    allocatable = min(total, available + free_swap_bytes(root))
    needed = sum(parts.values())
    verdict = REFUSED if needed > allocatable - RESERVE_BYTES else TIGHT
    if needed <= available - RESERVE_BYTES:
        verdict = OK
    return MemoryForecast(parts, available, allocatable, verdict)


def check_memory(forecast: MemoryForecast, force: bool = False) -> Optional[str]:
    """Refuse a build that cannot fit.

    Args:
        forecast: Of the build.
        force: Try all the same.

    Returns:
        A warning if it will be tight (or is forced), else None.

    Raises:
        DeviceMemoryError: It does not fit, with the numbers and with what helps.
    """
    if forecast.verdict == OK:
        return None
    if forecast.verdict == REFUSED and not force:
        raise DeviceMemoryError(
            "not enough memory to build: {}.".format(forecast),
            needed_bytes=forecast.needed_bytes,
            free_bytes=forecast.allocatable_bytes,
            hint=WHAT_HELPS + " --force tries all the same.",
        )
    return "memory is short: {}. It may swap for long, and tactics may be skipped.".format(forecast)


def check_disk(folder: str, stored_bytes: int) -> None:
    """Refuse a build whose plan will not fit beside what is there.

    Args:
        folder: Where the plan shall stand; exists.
        stored_bytes: Size of the weights file.

    Raises:
        DeviceMemoryError: The file system is too full, with the numbers.
    """
    status = os.statvfs(folder)
    free, needed = status.f_bavail * status.f_frsize, int(_PLAN_RATIO * stored_bytes)
    if free < needed:
        raise DeviceMemoryError(
            "the engine will take about {} MB, and {} has {} MB left.".format(
                needed // 10**6, folder, free // 10**6
            ),
            needed_bytes=needed,
            free_bytes=free,
            hint="free some space, or set MERINO_EDGE_CACHE to a folder on another disk.",
        )


def free_swap_bytes(root: str = "/") -> int:
    """Memory that swap can set free; compressed swap inside the memory counts half."""
    rows = re.findall(r"^(\S+)\s+\S+\s+(\d+)\s+(\d+)\s", read_text(root, "/proc/swaps") or "", re.M)
    if not rows:
        return meminfo_bytes(root).get("SwapFree", 0)
    worth = [
        (int(size) - int(used)) * 1024 * (_ZRAM_WORTH if "zram" in name else 1)
        for name, size, used in rows
    ]
    return int(sum(worth))


def oom_kills(root: str = "/") -> Optional[int]:
    """How often the kernel's out-of-memory killer struck; None where it keeps no count.

    Linux counts since 4.13; the kernel of a Nano is 4.9.
    """
    found = re.search(r"^oom_kill (\d+)$", read_text(root, "/proc/vmstat") or "", re.MULTILINE)
    return int(found.group(1)) if found else None
