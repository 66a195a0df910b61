"""The machines that an architecture can be meant for, and what is known of each.

The one idea: a target is a row of facts, each with its source; nothing is guessed. ``None`` means
unknown: a latency is then not predicted rather than invented. Default budgets and spaces are
starting points of ours, and every command lets you replace them.
"""

from typing import NamedTuple

from merino_edge.core.budget import Budget
from merino_edge.errors import UsageError

VALUE_BYTES = {"float32": 4, "float16": 2}


class Target(NamedTuple):
    """Facts about a machine and the way it is used.

    Attributes:
        name: What people type.
        device_model: The machine.
        backend: Which implementation runs there.
        precision: Of the stored weights.
        bytes_per_weight: Of the stored weights; int8 and int4 carry a 16-bit scale per 32 values.
        kv_dtype: Of the key/value cache.
        peak_bandwidth_bytes_per_s: Reading memory; None where unknown until measured.
        peak_flops_per_s: Arithmetic in that precision; None where unknown until measured.
        power_w: The module's power limit in the mode that is planned for; None where unknown.
        block_cache_bytes: Cache that can keep a block between its applications; 0 for none.
        max_seq_len: Longest context that is planned for, in tokens.
        default_space: Name of a space.
        default_budget: Limits used when none are given.
    """

    name: str
    device_model: str
    backend: str
    precision: str
    bytes_per_weight: float
    kv_dtype: str
    peak_bandwidth_bytes_per_s: float | None
    peak_flops_per_s: float | None
    power_w: float | None
    block_cache_bytes: int
    max_seq_len: int
    default_space: str
    default_budget: Budget

    @property
    def bytes_per_value(self) -> int:
        """Of the key/value cache."""
        return VALUE_BYTES[self.kv_dtype]


_SMALL = Budget(max_params=2_000_000, max_flops=10_000_000_000)
_PAPER = Budget(max_params=64_000_000, max_flops=160_000_000_000)

# CUDA bandwidthTest, device to device, on a real Nano: 16.5 GB/s of the nominal 25.6
# (github: kreier/llama.cpp-jetson, README at cba793e). Its GPU has 256 KB of L2: no block stays.
_NANO_GPU_BANDWIDTH = 16.5e9
# Same source: sysbench with one thread. Four threads may reach more, so this errs on the slow side.
_NANO_CPU_BANDWIDTH = 6.7e9
# 128 cores x 921.6 MHz x 2; twice that in half precision (compute capability 5.3).
_NANO_GPU_FP32_FLOPS = 236e9
# 4 Cortex-A57 x 1.479 GHz x one 128-bit fused multiply-add a cycle, in single precision.
_NANO_CPU_FLOPS = 47.3e9
_NANO_MAXN_W = 10.0  # nvpmodel 0, the default mode; mode 1 is limited to 5 W
# 8 GB module, dense half precision on the tensor cores, before the "Super" clocks: half of its
# nominal 20 dense int8 TOPS. In its 15 W mode.
_ORIN_NANO_FLOPS = 10e12
_ORIN_NANO_W = 15.0
# LPDDR5, nominal, before the "Super" clocks (102 GB/s). Not measured.
_ORIN_NANO_BANDWIDTH = 68e9

_HOST = Target(
    name="host",
    device_model="this machine",
    backend="ort",
    precision="fp32",
    bytes_per_weight=4.0,
    kv_dtype="float32",
    peak_bandwidth_bytes_per_s=None,
    peak_flops_per_s=None,
    power_w=None,
    block_cache_bytes=0,
    max_seq_len=2048,
    default_space="tiny",
    default_budget=_SMALL,
)
_NANO = Target(
    name="nano",
    device_model="Jetson Nano (JetPack 4.6, TensorRT 8.2)",
    backend="tensorrt",
    precision="fp16",
    bytes_per_weight=2.0,
    kv_dtype="float16",
    peak_bandwidth_bytes_per_s=_NANO_GPU_BANDWIDTH,
    peak_flops_per_s=2 * _NANO_GPU_FP32_FLOPS,
    power_w=_NANO_MAXN_W,
    block_cache_bytes=0,
    max_seq_len=1024,
    default_space="nano",
    default_budget=_PAPER,
)
_NANO_CPU = _NANO._replace(
    name="nano-cpu",
    device_model="the CPU of a Jetson Nano (4 x Cortex-A57)",
    backend="native",
    precision="int8",
    bytes_per_weight=1.0625,
    kv_dtype="float32",
    peak_bandwidth_bytes_per_s=_NANO_CPU_BANDWIDTH,
    peak_flops_per_s=_NANO_CPU_FLOPS,
)
_ORIN_NANO = _NANO._replace(
    name="orin-nano",
    device_model="Jetson Orin Nano (JetPack 6, TensorRT 10.3)",
    peak_bandwidth_bytes_per_s=_ORIN_NANO_BANDWIDTH,
    peak_flops_per_s=_ORIN_NANO_FLOPS,
    power_w=_ORIN_NANO_W,
    max_seq_len=2048,
)
_RTX = _NANO._replace(
    name="rtx",
    device_model="an RTX card in a workstation",
    backend="tensorrt-rtx",
    peak_bandwidth_bytes_per_s=None,
    peak_flops_per_s=None,
    power_w=None,
    max_seq_len=2048,
    default_space="paper",
)
_MOCK_NANO = _HOST._replace(
    name="mock-nano",
    device_model="no Nano: the CPU of this machine, priced as one",
    peak_bandwidth_bytes_per_s=_NANO_GPU_BANDWIDTH,
    peak_flops_per_s=_NANO_GPU_FP32_FLOPS,
    power_w=_NANO_MAXN_W,
    max_seq_len=256,
)
_ALL = (_HOST, _NANO, _NANO_CPU, _ORIN_NANO, _RTX, _MOCK_NANO)
TARGETS = {target.name: target for target in _ALL}


def get(name: str) -> Target:
    """A target by name.

    Raises:
        UsageError: There is none; names those there are.
    """
    if name not in TARGETS:
        known = ", ".join(TARGETS)
        raise UsageError(f"there is no target '{name}'.", hint=f"one of {known}.")
    return TARGETS[name]
