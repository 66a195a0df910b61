"""What limits a clock is told from fans and warnings; what is short is counted."""

import pytest
from board_files import NANO_HEAT, ORIN_HEAT
from doubles import JETSON_NANO, write_tree

from merino_edge.runtime.throttling import signs, throttled, throttled_between

COOLING = "/sys/class/thermal/cooling_device"
FREQ = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_"
ZONE = "/sys/class/thermal/thermal_zone1/"


@pytest.mark.parametrize("files", [NANO_HEAT, ORIN_HEAT], ids=["nano", "orin"])
def test_a_cool_board_does_not_throttle_though_its_fan_turns_or_its_surface_is_hot(tmp_path, files):
    assert throttled(write_tree(tmp_path, files)) is False


@pytest.mark.parametrize(
    ("files", "change", "name"),
    [
        (NANO_HEAT, {COOLING + "1/cur_state": "3\n"}, "cpu-balanced"),
        (NANO_HEAT, {COOLING + "2/cur_state": "1\n"}, "gpu-balanced"),
        (NANO_HEAT, {FREQ + "cur_freq": "1132800\n"}, "cpu0 at 1133 of 1479 MHz"),
        (ORIN_HEAT, {COOLING + "0/cur_state": "1\n"}, "cpu-throttle-alert"),
    ],
)
def test_what_limits_a_clock_is_named(tmp_path, files, change, name):
    root = write_tree(tmp_path, {**files, **change})
    assert throttled(root) is True
    assert signs(root).limited == [name]


@pytest.mark.parametrize(
    "change",
    [
        {FREQ + "min_freq": "102000\n", FREQ + "cur_freq": "102000\n"},  # free, and idle
        {FREQ + "driver": "intel_pstate\n", FREQ + "cur_freq": "900000\n"},  # turbo
    ],
    ids=["free", "turbo"],
)
def test_a_low_clock_that_may_be_low_says_nothing(tmp_path, change):
    assert throttled(write_tree(tmp_path, {**NANO_HEAT, **change})) is False


@pytest.mark.parametrize(
    ("files", "change"),
    [
        (NANO_HEAT, {"/proc/interrupts": " 67:   3   0   2   0   GICv2  83 Level soctherm_edp\n"}),
        (ORIN_HEAT, {"/sys/class/hwmon/hwmon3/oc3_event_cnt": "8\n"}),
        (NANO_HEAT, {FREQ + "max_freq": "1224000\n", FREQ + "cur_freq": "1224000\n"}),
    ],
    ids=["nano's supply", "orin's supply", "the limit was lowered"],
)
def test_what_happened_between_two_looks_is_seen(tmp_path, files, change):
    root = write_tree(tmp_path, files)
    before = signs(root)
    assert throttled_between(before, signs(root)) is False
    write_tree(tmp_path, change)
    after = signs(root)
    assert after.limited == []
    assert throttled_between(before, after) is True
    assert throttled_between(after, after) is False


def test_without_cooling_devices_the_passive_trip_counts_and_the_dummy_sensor_does_not(tmp_path):
    trips = {
        ZONE + "trip_point_0_type": "passive\n",
        ZONE + "trip_point_0_temp": "97000\n",
        ZONE + "trip_point_1_type": "critical\n",
        ZONE + "trip_point_1_temp": "30000\n",
        "/sys/class/thermal/thermal_zone4/trip_point_0_type": "passive\n",
        "/sys/class/thermal/thermal_zone4/trip_point_0_temp": "90000\n",
    }
    root = write_tree(tmp_path, {**JETSON_NANO, **trips})
    assert throttled(root) is False
    write_tree(tmp_path, {ZONE + "temp": "97500\n"})
    assert signs(root).limited == ["CPU-therm at 98 C"]


def test_a_trip_that_is_not_set_does_not_count(tmp_path):
    files = {ZONE + "trip_point_0_type": "passive\n", ZONE + "trip_point_0_temp": "0\n"}
    assert throttled(write_tree(tmp_path, {**JETSON_NANO, **files})) is None


def test_a_board_that_tells_nothing_is_not_said_to_be_well(tmp_path):
    root = write_tree(tmp_path, JETSON_NANO)
    assert throttled(root) is None
    assert throttled_between(signs(root), signs(root)) is None
