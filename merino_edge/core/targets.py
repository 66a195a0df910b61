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
    block_cache_bytes: int
    max_seq_len: int
    default_space: str
    default_budget: Budget

    @property
    def bytes_per_value(self) -> int:
        """Of the key/value cache."""
        return VALUE_BYTES[self.kv_dtype]


_SMALL = Budget(max_params=2_000_000, max_flops=4_000_000_000)
_PAPER = Budget(max_params=64_000_000, max_flops=160_000_000_000)

# CUDA bandwidthTest, device to device, on a real Nano: 16.5 GB/s of the nominal 25.6
# (github: kreier/llama.cpp-jetson, README at cba793e). Its GPU has 256 KB of L2: no block stays.
_NANO_GPU_BANDWIDTH = 16.5e9
# Same source: sysbench with one thread. Four threads may reach more, so this errs on the slow side.
_NANO_CPU_BANDWIDTH = 6.7e9
# LPDDR5, nominal, before the "Super" clocks (102 GB/s). Not measured.
_ORIN_NANO_BANDWIDTH = 68e9

TARGETS = {
    target.name: target
    for target in (
        Target("host", "this machine", "ort", "fp32", 4.0, "float32", None, 0, 2048, "tiny", _SMALL),
        Target(
            "nano", "Jetson Nano (JetPack 4.6, TensorRT 8.2)", "tensorrt", "fp16", 2.0, "float16",
            _NANO_GPU_BANDWIDTH, 0, 1024, "nano", _PAPER,
        ),
        Target(
            "nano-cpu", "Jetson Nano's CPU (4 x Cortex-A57)", "native", "int8", 1.0625, "float32",
            _NANO_CPU_BANDWIDTH, 0, 1024, "nano", _PAPER,
        ),
        Target(
            "orin-nano", "Jetson Orin Nano (JetPack 6, TensorRT 10.3)", "tensorrt", "fp16", 2.0,
            "float16", _ORIN_NANO_BANDWIDTH, 0, 2048, "nano", _PAPER,
        ),
        Target(
            "rtx", "RTX workstation card", "tensorrt-rtx", "fp16", 2.0, "float16",
            None, 0, 2048, "paper", _PAPER,
        ),
        Target(
            "mock-nano", "a Nano that is not there: the CPU of this machine, a Nano's figures", "ort",
            "fp32", 4.0, "float32", _NANO_GPU_BANDWIDTH, 0, 256, "tiny", _SMALL,
        ),
    )
}  # fmt: skip


def get(name: str) -> Target:
    """A target by name.

    Raises:
        UsageError: There is none; names those there are.
    """
    if name not in TARGETS:
        known = ", ".join(TARGETS)
        raise UsageError(f"there is no target '{name}'.", hint=f"one of {known}.")
    return TARGETS[name]
