"""A measured quantity, the device it was measured on, and the conditions it was measured under.

The one idea: a number without its spread, device and conditions cannot be compared with another,
so the three travel together. ``None`` means "not measured" or "does not exist here", never zero.
"""

import math
from typing import Dict, List, NamedTuple, Optional, Sequence

from merino_edge.errors import SpecError

# Two-sided 95 % points of Student's t for 1 to 30 degrees of freedom. With five repetitions the
# normal distribution's 1.96 would make the interval 30 % too narrow.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class Summary(NamedTuple):
    """Samples of one quantity in seven numbers and a unit.

    Attributes:
        n: Samples.
        mean: Their mean.
        std: Standard deviation with n - 1; None for a single sample.
        min, p50, p95, max: Order statistics; percentiles interpolate between neighbours.
        unit: Such as "ms" or "tok/s".
        ci95: Half the width of the 95 % confidence interval of the mean (Student's t); None for a
            single sample.
    """

    n: int
    mean: float
    std: Optional[float]
    min: float
    p50: float
    p95: float
    max: float
    unit: str
    ci95: Optional[float]


class DeviceInfo(NamedTuple):
    """A machine, as far as it changes timings.

    Attributes:
        model: The board's name, or the processor's where there is no board.
        machine: Instruction set, such as "x86_64" or "aarch64".
        cpu: The processor's name.
        n_cores: Cores this process may use.
        memory_bytes: RAM, all of it.
        last_cache_bytes: The largest CPU cache; None if the system does not tell.
        os: Such as "Ubuntu 18.04.6 LTS".
        python: Version.
        packages: Versions of the libraries that compute.
        l4t: Version of NVIDIA's Linux on a Jetson, such as "32.7.1".
        jetpack: The JetPack that this L4T belongs to, where known.
        tensorrt: Version of the installed TensorRT libraries.
        cuda: Version of the installed CUDA toolkit.
    """

    model: str
    machine: str
    cpu: str
    n_cores: int
    memory_bytes: int
    last_cache_bytes: Optional[int]
    os: str
    python: str
    packages: Dict[str, str]
    l4t: Optional[str] = None
    jetpack: Optional[str] = None
    tensorrt: Optional[str] = None
    cuda: Optional[str] = None


class Conditions(NamedTuple):
    """What may make the same device faster or slower tomorrow.

    Attributes:
        load_before, load_after: Load average of the last minute.
        others_cpu_share: Share of all cores' time that other processes used meanwhile, 0 to 1.
        power_mode: nvpmodel's mode on a Jetson.
        governor: CPU frequency governor.
        temp_c_start, temp_c_end: Hottest CPU or GPU sensor, in degrees Celsius.
        clocks_locked, throttled: None where the system does not tell.
        warnings: Sentences for people: why to mistrust the numbers.
    """

    load_before: Optional[float] = None
    load_after: Optional[float] = None
    others_cpu_share: Optional[float] = None
    power_mode: Optional[str] = None
    governor: Optional[str] = None
    temp_c_start: Optional[float] = None
    temp_c_end: Optional[float] = None
    clocks_locked: Optional[bool] = None
    throttled: Optional[bool] = None
    warnings: List[str] = []


def summarize(samples: Sequence[float], unit: str) -> Summary:
    """The summary of some samples.

    Raises:
        SpecError: There are none.
    """
    if not samples:
        raise SpecError("no samples to summarize.")
    ordered = sorted(float(sample) for sample in samples)
    n = len(ordered)
    mean = math.fsum(ordered) / n
    std = _std(ordered, mean) if n > 1 else None
    return Summary(
        n=n,
        mean=mean,
        std=std,
        min=ordered[0],
        p50=percentile(ordered, 50),
        p95=percentile(ordered, 95),
        max=ordered[-1],
        unit=unit,
        ci95=None if std is None else t95(n - 1) * std / math.sqrt(n),
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Percentile of sorted samples, interpolated linearly between the two nearest."""
    place = (len(ordered) - 1) * percent / 100.0
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def t95(degrees_of_freedom: int) -> float:
    """Two-sided 95 % point of Student's t; beyond the table 1.96 + 2.4 / f, right to 0.1 %."""
    if degrees_of_freedom <= len(_T95):
        return _T95[degrees_of_freedom - 1]
    return 1.96 + 2.4 / degrees_of_freedom


def _std(samples: Sequence[float], mean: float) -> float:
    return math.sqrt(math.fsum((x - mean) ** 2 for x in samples) / (len(samples) - 1))
