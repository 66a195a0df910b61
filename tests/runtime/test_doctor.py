"""Each thing that can be wrong with a machine is found, explained and mended; driven by files."""

import shutil

import pytest
from board_files import JETSON_ORIN, NANO_DESKTOP, NANO_HEAT, NANO_RAILS, ORIN_HEAT, ORIN_RAILS
from doubles import JETSON_NANO, write_tree

from merino_edge.runtime.device_info import device_info
from merino_edge.runtime.doctor import Facts, Gpu, Native, User, examine, observe, programs
from merino_edge.runtime.doctor.facts import NVIDIA_PACKAGES

BOARD_PACKAGES = {"numpy": "1.19.5", "tokenizers": "0.12.1", "onnxruntime": "1.10.0"}
HOST_PACKAGES = {
    "numpy": "2.4",
    "tokenizers": "0.23",
    "onnxruntime": "1.32",
    "torch": "2",
    "onnx": "1",
}
PC = {
    "/proc/cpuinfo": "processor : 0\nmodel name : Some CPU\nflags : avx2 fma\n",
    "/proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 12000000 kB\nSwapTotal: 0 kB\n",
    "/proc/loadavg": "0.05 0.05 0.05 1/1 1\n",
}


NATIVE = Native("ABI 2, plain kernels (of plain), up to 1 threads, libmerino_edge.so")
NANO_NAME = "/sys/bus/i2c/devices/6-0040/iio:device0/rail_name_0"
ZONE_1 = "/sys/class/thermal/thermal_zone1/temp"
COOLING_1 = "/sys/class/thermal/cooling_device1/cur_state"
CPU_LEAST = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq"
TEGRA = Gpu("NVIDIA Tegra X1 (compute capability 5.3) through cudart 10.2")


def nano(
    tmp_path, files=(), packages=BOARD_PACKAGES, free_disk_bytes=8 << 30, gpu=TEGRA, has_trt=True
):
    root = write_tree(tmp_path, {**JETSON_NANO, **NANO_RAILS, **dict(files)})
    device = device_info(root, "aarch64")
    return Facts(root, (3, 6, 9), packages, device, free_disk_bytes, gpu, has_trt, NATIVE)


def orin(tmp_path, files=(), user=None):
    root = write_tree(tmp_path, {**JETSON_ORIN, **ORIN_RAILS, **dict(files)})
    packages = {**HOST_PACKAGES, "torch": None, "onnx": None}
    ampere = Gpu("Orin (compute capability 8.7) through cudart 12.6")
    device = device_info(root, "aarch64")
    facts = Facts(root, (3, 10, 12), packages, device, 64 << 30, ampere, True, NATIVE, user)
    return facts._replace(debian=programs.debian_versions(root, NVIDIA_PACKAGES))


def pc(tmp_path, files=(), packages=HOST_PACKAGES, python=(3, 11, 0)):
    root = write_tree(tmp_path, dict(PC, **dict(files)))
    device = device_info(root, "x86_64")
    return Facts(root, python, packages, device, 8 << 30, native=NATIVE)


def verdicts(facts):
    return {check.name: check for check in examine(facts)}


def not_ok(facts):
    return {name: check.status for name, check in verdicts(facts).items() if check.status != "ok"}


def test_a_well_kept_board_passes_everything_but_its_small_swap(tmp_path):
    assert not_ok(nano(tmp_path)) == {"swap": "warn"}  # 2025504 kB, the zram that it comes with


def test_a_well_kept_workstation_passes_everything(tmp_path):
    found = verdicts(pc(tmp_path))
    assert {check.status for check in found.values()} == {"ok"}
    assert not {"board", "tensorrt", "power mode", "power rails", "openblas"} & set(found)


def test_a_well_kept_orin_passes_everything(tmp_path):
    facts = orin(tmp_path, user=User("user", ("user", "video", "render", "i2c")))
    found = verdicts(facts)
    assert not_ok(facts) == {}
    assert found["board"].found.endswith("Orin Nano Developer Kit, L4T 36.4.3, JetPack 6.2")
    assert found["jetpack"].found == "6.2"
    assert found["cuda"].found == "12.6.20240801"
    assert found["tensorrt"].found == "10.3.0.30-1+cuda12.5"
    assert found["power mode"].found == "MAXN_SUPER"
    assert found["clocks"].found == (
        "CPU pinned at 1510 MHz, GPU pinned at 1020 MHz, governor schedutil"
    )
    assert found["temperature"].found == "48 C, the hottest sensor"
    assert found["swap"].found == "3809 MiB, of which 634 in memory (zram)"
    assert found["groups"].found == "user is in video, render, i2c, not in docker"


@pytest.mark.parametrize(
    ("number", "name", "mend"), [("0001", "25W", "nvpmodel -m 2"), ("0003", "7W", "nvpmodel -m 2")]
)
def test_a_lower_mode_is_named_with_the_number_of_the_highest(tmp_path, number, name, mend):
    check = verdicts(orin(tmp_path, {"/var/lib/nvpmodel/status": "pmode:" + number}))["power mode"]
    assert (check.status, check.found) == ("warn", name)
    assert mend in check.mend
    assert "MAXN_SUPER" in check.why


def test_a_board_without_a_maxn_may_be_in_its_highest_mode(tmp_path):
    conf = "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=7W >\n"
    files = {"/etc/nvpmodel.conf": conf, "/var/lib/nvpmodel/status": "pmode:0000"}
    assert verdicts(orin(tmp_path / "a", files))["power mode"].status == "ok"
    files["/var/lib/nvpmodel/status"] = "pmode:0001"
    assert "-m 0" in verdicts(orin(tmp_path / "b", files))["power mode"].mend


@pytest.mark.parametrize(
    ("groups", "status", "mend"),
    [
        (("video", "render", "i2c", "docker"), "ok", ""),
        (("video", "render"), "ok", "usermod -aG i2c,docker ann"),
        (("ann",), "warn", "sudo usermod -aG video,render,i2c,docker ann, and log in again"),
    ],
)
def test_a_user_who_cannot_open_the_gpu_is_told_the_groups(tmp_path, groups, status, mend):
    check = verdicts(orin(tmp_path, user=User("ann", groups)))["groups"]
    assert (check.status, mend in check.mend) == (status, True)
    assert ("the GPU" in check.why) is (status == "warn")


def test_root_needs_no_groups(tmp_path):
    assert verdicts(orin(tmp_path, user=User("root", (), is_root=True)))["groups"].status == "ok"


def test_an_orin_whose_supply_gave_in_is_told_how_often(tmp_path):
    check = verdicts(orin(tmp_path, ORIN_HEAT))["supply"]
    assert check.found.startswith("7 over-current")
    assert check.status == "warn"


def test_a_desktop_is_named_with_what_it_holds_and_nobody_else_is(tmp_path):
    check = verdicts(nano(tmp_path, NANO_DESKTOP))["desktop"]
    assert check.found == "gnome-shell and 1 others hold 390 MiB"


def test_swap_in_memory_does_not_count_on_a_small_board(tmp_path):
    meminfo = "MemTotal: 4051024 kB\nMemAvailable: 2900000 kB\nSwapTotal: 4194304 kB"
    swaps = "Filename Type Size Used Priority\n/dev/zram0 partition 2025504 0 5\n"
    files = {"/proc/meminfo": meminfo + "\n"}
    assert verdicts(nano(tmp_path / "a", files))["swap"].status == "ok"
    files["/proc/swaps"] = swaps + "/dev/zram1 partition 506376 0 5\n"
    assert verdicts(nano(tmp_path / "b", files))["swap"].status == "warn"


def test_a_board_whose_python_lacks_the_module_is_told_its_package(tmp_path):
    facts = orin(tmp_path)
    without = {name: v for name, v in facts.debian.items() if name != "python3-libnvinfer"}
    check = verdicts(facts._replace(has_tensorrt=False, debian=without))["tensorrt module"]
    assert check.mend == "sudo apt install python3-libnvinfer"


def test_a_package_that_was_removed_is_not_installed(tmp_path):
    root = write_tree(tmp_path, JETSON_ORIN)
    found = programs.debian_versions(root, NVIDIA_PACKAGES)
    assert sorted(found) == ["libnvinfer10", "nvidia-jetpack", "python3-libnvinfer"]


def test_a_board_whose_gpu_or_tensorrt_cannot_be_reached_is_told_why(tmp_path):
    facts = nano(tmp_path, gpu=Gpu(problem="cudaErrorNoDevice"), has_trt=False)
    found = verdicts(facts)
    assert not_ok(facts) == {"swap": "warn", "gpu": "warn", "tensorrt module": "warn"}
    assert "cudaErrorNoDevice" in found["gpu"].found
    assert "--system-site-packages" in found["tensorrt module"].mend
    assert "neither libcudart nor pycuda" in verdicts(nano(tmp_path, gpu=None))["gpu"].found


@pytest.mark.parametrize(
    ("name", "status", "files", "mend"),
    [
        ("openblas", "warn", {"/proc/self/environ": "HOME=/\0"}, "OPENBLAS_CORETYPE=ARMV8"),
        ("board", "warn", {"/etc/nv_tegra_release": "# R32 (release), REVISION: 4.4,"}, "SD card"),
        ("power mode", "warn", {"/var/lib/nvpmodel/status": "pmode:0001"}, "nvpmodel -m 0"),
        ("power mode", "warn", {"/var/lib/nvpmodel/status": "?"}, "nvpmodel -q"),
        ("load", "warn", {"/proc/loadavg": "3.9 1 1 1/1 1"}, "top"),
        ("cuda", "warn", {"/usr/local/cuda/version.txt": "?"}, "nvidia-jetpack"),
        ("jetpack", "warn", {"/usr/local/cuda/version.txt": "?"}, "nvidia-jetpack"),
        ("desktop", "warn", NANO_DESKTOP, "set-default multi-user.target"),
        ("temperature", "warn", {ZONE_1: "91000"}, "--fan"),
        ("temperature", "warn", {**NANO_HEAT, COOLING_1: "3"}, "--fan"),
        ("supply", "warn", NANO_HEAT, "J48"),
        ("clocks", "warn", {**NANO_HEAT, CPU_LEAST: "102000"}, "jetson_clocks"),
        (
            "memory",
            "warn",
            {"/proc/meminfo": "MemTotal: 4051024 kB\nMemAvailable: 800000 kB"},
            "multi-user.target",
        ),
        (
            "memory",
            "fail",
            {"/proc/meminfo": "MemTotal: 4051024 kB\nMemAvailable: 90000 kB"},
            "multi-user.target",
        ),
    ],
)
def test_what_is_wrong_with_a_board_is_found_with_its_remedy(tmp_path, name, status, files, mend):
    check = verdicts(nano(tmp_path, files))[name]
    assert (check.status, mend in check.mend) == (status, True)
    assert check.why.endswith(".")


def test_the_rails_of_a_board_are_named(tmp_path):
    check = verdicts(nano(tmp_path / "a"))["power rails"]
    assert check.found == "input POM_5V_IN, beside POM_5V_CPU, POM_5V_GPU"
    newer = write_tree(tmp_path / "b", {**JETSON_NANO, **ORIN_RAILS})
    facts = nano(tmp_path / "a")._replace(root=newer)
    assert verdicts(facts)["power rails"].found == "input VDD_IN, beside VDD_CPU_GPU_CV"


@pytest.mark.parametrize(
    ("files", "found"),
    [({}, "none"), ({**NANO_RAILS, NANO_NAME: "SYS5V\n"}, "none of them the input: POM_5V_CPU, ")],
    ids=["no rails", "no input"],
)
def test_a_board_that_does_not_show_its_power_is_told_what_is_missing(tmp_path, files, found):
    root = write_tree(tmp_path / "bare", {**JETSON_NANO, **files})
    check = verdicts(nano(tmp_path / "a")._replace(root=root))["power rails"]
    assert (check.status, check.found[: len(found)]) == ("warn", found)
    assert "energy is not measured" in check.why


@pytest.mark.parametrize(
    ("missing", "status"), [("numpy", "fail"), ("tokenizers", "warn"), ("onnxruntime", "warn")]
)
def test_a_missing_package_comes_with_the_version_that_python_36_takes(tmp_path, missing, status):
    packages = {name: version for name, version in BOARD_PACKAGES.items() if name != missing}
    check = verdicts(nano(tmp_path, packages=packages))[missing]
    assert (check.status, check.found) == (status, "not installed")
    assert "pip==21.3.1" in check.mend
    assert f"{missing}=={BOARD_PACKAGES[missing]}" in check.mend


def test_a_workstation_without_torch_can_still_search(tmp_path):
    packages = {name: v for name, v in HOST_PACKAGES.items() if name != "torch"}
    check = verdicts(pc(tmp_path, packages=packages))["host packages"]
    assert check.status == "warn"
    assert "torch not installed" in check.found
    assert check.mend == "pip install 'merino-edge[host]'"


def test_an_old_x86_is_warned_that_it_is_slow(tmp_path):
    files = {"/proc/cpuinfo": "processor : 0\nmodel name : Old CPU\nflags : sse2\n"}
    assert "avx2" in verdicts(pc(tmp_path, files))["cpu"].why


def test_python_35_fails(tmp_path):
    assert verdicts(pc(tmp_path, python=(3, 5, 2)))["python"].status == "fail"


@pytest.mark.parametrize(
    ("free", "status"), [(100 << 20, "fail"), (1 << 30, "warn"), (4 << 30, "ok")]
)
def test_a_disk_that_fills_is_seen_before_it_is_full(tmp_path, free, status):
    assert verdicts(nano(tmp_path, free_disk_bytes=free))["disk"].status == status


def test_the_native_decoder_is_found_with_its_kernels_and_threads(native_library):
    check = verdicts(observe())["native"]
    assert check.status == "ok"
    assert native_library.path in check.found
    usable = native_library.call.me_usable_threads()
    assert f"plain), up to {usable} threads" in check.found


def test_without_the_native_decoder_the_way_to_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("MERINO_EDGE_NATIVE", str(tmp_path / "none.so"))
    check = verdicts(observe())["native"]
    assert check.status == "warn"
    assert "libmerino_edge.so" in check.found
    assert "C compiler" in check.mend


def test_this_machine_can_be_observed(tmp_path):
    facts = observe(folder=str(tmp_path))
    found = verdicts(facts)
    assert found["numpy"].status == "ok"
    assert found["python"].status == "ok"
    assert facts.free_disk_bytes == pytest.approx(shutil.disk_usage(str(tmp_path)).free, rel=0.1)


NVPMODEL = "echo 'NV Power Mode: 5W'; echo 1"
TEGRASTATS = (
    "while :; do echo 'RAM 330/3964MB (lfb 758x4MB) SWAP 0/1982MB CPU [5%@102,off,off,off] "
    "PLL@20.5C CPU@43C PMIC@100C GPU@42.5C AO@27C thermal@42.5C POM_5V_IN 933/933'; sleep 0.1; done"
)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a program of a few lines on PATH, before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def write(name, text):
        (folder / name).write_text("#!/bin/sh\n" + text + "\n")
        (folder / name).chmod(0o755)

    return write


def test_what_no_file_tells_is_asked_of_nvidias_programs(tmp_path, program):
    program("nvpmodel", NVPMODEL)
    program("tegrastats", TEGRASTATS)
    files = {"/var/lib/nvpmodel/status": "", ZONE_1: "?", ZONE_1.replace("1", "2"): "?"}
    root = write_tree(tmp_path / "board", {**JETSON_NANO, **NANO_RAILS, **files})
    facts = observe(root, str(tmp_path))
    found = verdicts(facts)
    assert (found["power mode"].found, found["power mode"].status) == ("5W", "warn")
    assert found["temperature"].found == "43 C, the hottest sensor"


def test_programs_are_not_asked_for_what_files_tell(tmp_path, program):
    program("nvpmodel", NVPMODEL)
    root = write_tree(tmp_path / "board", JETSON_NANO)
    assert verdicts(observe(root, str(tmp_path)))["power mode"].found == "MAXN"


@pytest.mark.parametrize("text", ["exit 1", "echo nonsense", "sleep 60"])
def test_a_program_that_fails_or_hangs_says_nothing(program, monkeypatch, text):
    monkeypatch.setattr(programs, "TIMEOUT_S", 0.3)
    program("nvpmodel", text)
    program("tegrastats", text)
    assert programs.power_mode_said() is None
    assert programs.hottest_said_c() is None


def test_dpkg_is_asked_where_its_file_has_moved(program, monkeypatch):
    program(
        "dpkg-query",
        "printf 'Package: nvidia-jetpack\nStatus: install ok installed\nVersion: 4.6.1-b110\n\n'",
    )
    monkeypatch.setattr(programs, "read_text", lambda root, path: None)
    assert programs.debian_versions("/", NVIDIA_PACKAGES) == {"nvidia-jetpack": "4.6.1-b110"}
