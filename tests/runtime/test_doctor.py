"""Each thing that can be wrong with a machine is found, explained and mended; driven by files."""

import shutil

import pytest
from board_files import NANO_RAILS, ORIN_RAILS
from doubles import JETSON_NANO, write_tree

from merino_edge.runtime.device_info import device_info
from merino_edge.runtime.doctor import Facts, Gpu, Native, examine, observe

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
TEGRA = Gpu("NVIDIA Tegra X1 (compute capability 5.3) through cudart 10.2")


def nano(
    tmp_path, files=(), packages=BOARD_PACKAGES, free_disk_bytes=8 << 30, gpu=TEGRA, has_trt=True
):
    root = write_tree(tmp_path, {**JETSON_NANO, **NANO_RAILS, **dict(files)})
    device = device_info(root, "aarch64")
    return Facts(root, (3, 6, 9), packages, device, free_disk_bytes, gpu, has_trt, NATIVE)


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
        ("tensorrt", "warn", {"/usr/local/cuda/version.txt": "?"}, "nvidia-jetpack"),
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
