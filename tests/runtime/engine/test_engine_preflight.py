"""The forecast adds up, knows what swap is worth, and refuses with numbers and a way out."""

import pathlib

import pytest

from merino_edge.errors import DeviceMemoryError
from merino_edge.runtime.engine import preflight
from merino_edge.runtime.engine.preflight import (
    MIB,
    build_memory,
    check_disk,
    check_memory,
    forecast_memory,
    free_swap_bytes,
    oom_kills,
)

NANO_MIB = 3957


def machine(tmp_path, available_mib, swaps=""):
    """A file system whose /proc says so much memory is available, and such swap exists."""
    proc = tmp_path / "proc"
    proc.mkdir(exist_ok=True)
    lines = {"MemTotal": NANO_MIB, "MemAvailable": available_mib, "SwapFree": 0}
    text = "".join(f"{name}:   {mib * 1024} kB\n" for name, mib in lines.items())
    (proc / "meminfo").write_text(text)
    (proc / "swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n" + swaps)
    return str(tmp_path)


def test_a_decoder_of_64_million_needs_what_the_facts_add_up_to():
    parts = build_memory(stored_bytes=128_000_000, bytes_per_value=2, workspace_bytes=256 * MIB)
    assert parts["network weights"] == 256_000_000
    assert parts["engine"] == parts["plan"] == 128_000_000
    libraries = (229 + 281 + 100 + 256) * MIB  # CUDA, cuBLAS, the process, the workspace
    assert sum(parts.values()) == 4 * 128_000_000 + libraries


def test_float32_weights_do_not_count_twice():
    half = build_memory(100, 2, 0)
    full = build_memory(200, 4, 0)
    assert half == full


def test_cudnn_costs_what_was_seen():
    assert build_memory(0, 2, 0, cudnn=True)["cuDNN"] == 412 * MIB


@pytest.mark.parametrize(
    ("available_mib", "swaps", "verdict"),
    [
        (1300, "", "ok"),
        (1100, "", "refused"),
        (1100, "/swapfile file 4194304 0 -2\n", "tight"),
        (1100, "/swapfile file 4194304 4194304 -2\n", "refused"),
        (900, "/dev/zram0 partition 409600 0 5\n", "refused"),
        (900, "/dev/zram0 partition 1024000 0 5\n", "tight"),
    ],
)
def test_the_verdict_counts_memory_and_swap(tmp_path, available_mib, swaps, verdict):
    parts = {"all": 1100 * MIB}
    assert forecast_memory(parts, machine(tmp_path, available_mib, swaps)).verdict == verdict


def test_swap_never_makes_more_memory_than_there_is(tmp_path):
    root = machine(tmp_path, 3000, "/swapfile file 67108864 0 -2\n")
    assert forecast_memory({}, root).allocatable_bytes == NANO_MIB * MIB


def test_compressed_swap_counts_half(tmp_path):
    swaps = "/dev/zram0 partition 2048 1024 5\n/swapfile file 1024 0 -2\n"
    assert free_swap_bytes(machine(tmp_path, 1, swaps)) == (512 + 1024) * 1024


def test_too_little_memory_is_refused_with_numbers_and_help(tmp_path):
    forecast = forecast_memory({"network weights": 2000 * MIB}, machine(tmp_path, 1000))
    with pytest.raises(DeviceMemoryError) as caught:
        check_memory(forecast)
    error = caught.value
    assert error.exit_code == 4
    assert (error.needed_bytes, error.free_bytes) == (2000 * MIB, 1000 * MIB)
    assert "network weights 2097 MB" in error.message
    assert "swapon" in error.hint
    assert "--force" in error.hint


def test_force_turns_the_refusal_into_a_warning(tmp_path):
    forecast = forecast_memory({"all": 2000 * MIB}, machine(tmp_path, 1000))
    assert "memory is short" in check_memory(forecast, force=True)


def test_enough_memory_says_nothing(tmp_path):
    assert check_memory(forecast_memory({"all": MIB}, machine(tmp_path, 1000))) is None


def test_a_disk_too_small_for_the_engine_is_refused(tmp_path):
    check_disk(str(tmp_path), 1000)
    with pytest.raises(DeviceMemoryError, match="MERINO_EDGE_CACHE") as caught:
        check_disk(str(tmp_path), 10**18)
    assert caught.value.needed_bytes == int(1.3 * 10**18)


def test_oom_kills_are_counted_where_the_kernel_counts(tmp_path):
    root = machine(tmp_path, 1)
    assert oom_kills(root) is None
    pathlib.Path(root, "proc/vmstat").write_text("nr_free_pages 5\noom_kill 3\n")
    assert oom_kills(root) == 3


def test_this_machine_has_memory():
    assert forecast_memory({}).available_bytes > preflight.RESERVE_BYTES
