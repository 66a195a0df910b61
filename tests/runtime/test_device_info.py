"""A machine is a tree of files: here a Jetson Nano's, and one with nothing in it."""

import pytest
from doubles import JETSON_NANO, write_tree

from merino_edge.runtime.conditions import conditions_between, others_cpu_share, snapshot
from merino_edge.runtime.device_info import (
    cpu_features,
    device_info,
    hottest_c,
    package_versions,
    power_mode,
)


@pytest.fixture
def nano(tmp_path):
    return write_tree(tmp_path, JETSON_NANO)


def test_a_jetson_nano_is_described(nano):
    info = device_info(nano, machine="aarch64")
    assert info.model == "NVIDIA Jetson Nano Developer Kit"
    assert (info.cpu, info.n_cores, info.machine) == ("Cortex-A57", 4, "aarch64")
    assert info.memory_bytes == 4051024 * 1024
    assert info.last_cache_bytes == 2 << 20
    assert info.os == "Ubuntu 18.04.6 LTS"
    assert (info.l4t, info.jetpack) == ("32.7.1", "4.6.1")
    assert (info.tensorrt, info.cuda) == ("8.2.1", "10.2.300")


def test_a_newer_board_keeps_its_cuda_version_in_json(tmp_path):
    text = '{"cuda": {"name": "CUDA SDK", "version": "12.6.10"}}'
    root = write_tree(tmp_path, {"/usr/local/cuda/version.json": text})
    assert device_info(root, "aarch64").cuda == "12.6.10"


def test_an_unknown_l4t_is_reported_and_its_jetpack_not_guessed(tmp_path):
    root = write_tree(
        tmp_path, {"/etc/nv_tegra_release": "# R36 (release), REVISION: 4.0, GCID: 1"}
    )
    info = device_info(root, "aarch64")
    assert (info.l4t, info.jetpack) == ("36.4.0", None)


def test_a_machine_without_such_files_is_described_by_what_it_says(tmp_path):
    info = device_info(str(tmp_path), machine="riscv64")
    assert (info.model, info.cpu, info.n_cores, info.memory_bytes) == ("riscv64", "riscv64", 1, 0)
    assert info.last_cache_bytes is info.l4t is info.tensorrt is info.cuda is None


def test_this_machine_is_described_without_surprises():
    info = device_info()
    assert info.n_cores >= 1
    assert info.memory_bytes > 1 << 28
    assert info.packages["numpy"][0].isdigit()


def test_x86_names_its_processor(tmp_path):
    text = "processor : 0\nmodel name : Some CPU @ 2 GHz\nflags : fpu avx2 fma\n"
    root = write_tree(tmp_path, {"/proc/cpuinfo": text})
    assert device_info(root, "x86_64").model == "Some CPU @ 2 GHz"
    assert cpu_features(root) == ["fpu", "avx2", "fma"]


def test_the_hottest_sensor_is_no_dummy(nano):
    assert hottest_c(nano) == 34.5  # neither the board's 38 nor the PMIC's constant 100


def test_power_modes_have_names_or_numbers(nano, tmp_path_factory):
    assert power_mode(nano) == "MAXN"
    write_tree(nano, {"/var/lib/nvpmodel/status": "pmode:0001\n"})
    assert power_mode(nano) == "5W"
    bare = write_tree(tmp_path_factory.mktemp("b"), {"/var/lib/nvpmodel/status": "pmode:0003\n"})
    assert power_mode(bare) == "3"


def test_versions_of_what_is_missing_are_none():
    found = package_versions(["numpy", "no-such-package-anywhere"])
    assert found["no-such-package-anywhere"] is None
    assert found["numpy"] is not None


def test_waiting_for_a_disk_is_not_work(nano):
    before = snapshot(nano)
    write_tree(nano, {"/proc/stat": "cpu  1000 0 500 8000 900 0 0 0 0 0\n"})
    assert others_cpu_share(before, snapshot(nano)) == 0.0


def cpu_line(user, idle):
    return f"cpu  {user} 0 0 {idle} 0 0 0 0 0 0\n"


def looks(nano, ticks, own_s):
    """Snapshots after so many ticks of work and idling, and so many seconds of ours."""
    found = []
    for (user, idle), own in zip(ticks, own_s):
        write_tree(nano, {"/proc/stat": cpu_line(user, idle)})
        found.append(snapshot(nano)._replace(own_cpu_s=own))
    return found


def test_time_that_others_used_is_told_from_ours(nano):
    # 400 ticks of four cores pass, 300 of them busy, 2 s = 200 ticks are ours
    before, after = looks(nano, [(1000, 5000), (1300, 5100)], [10.0, 12.0])
    assert others_cpu_share(before, after) == pytest.approx(0.25)
    found = conditions_between(before, after, 4, nano)
    assert found.warnings == ["other processes used 25 % of the CPU while this was measured."]
    assert (found.power_mode, found.governor, found.temp_c_start) == ("MAXN", "schedutil", 34.5)


def test_a_machine_that_is_ours_alone_brings_no_warning(nano):
    before, after = looks(nano, [(1000, 5000), (1200, 5200)], [10.0, 12.0])
    assert others_cpu_share(before, after) == 0.0
    assert conditions_between(before, after, 4, nano).warnings == []


def test_too_short_a_time_says_nothing_and_the_load_average_speaks(nano):
    write_tree(nano, {"/proc/loadavg": "3.50 1.00 0.50 2/300 1\n"})
    before, after = looks(nano, [(1000, 5000), (1002, 5002)], [10.0, 10.02])
    assert others_cpu_share(before, after) is None
    warnings = conditions_between(before, after, 4, nano).warnings
    assert warnings == ["the machine was busy before it began: load 3.50 on 4 cores."]


def test_a_power_mode_that_limits_is_named(nano):
    write_tree(nano, {"/var/lib/nvpmodel/status": "pmode:0001\n"})
    look = snapshot(nano)
    assert conditions_between(look, look, 4, nano).warnings == [
        "measured in power mode 5W, not MAXN."
    ]
