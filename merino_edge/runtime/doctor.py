"""Is this machine fit, and if not, which command mends it?

The one idea: facts are gathered first (from files below ``root``, so that a test can hand over a
recorded board), then each check is a small function from facts to a verdict. "warn" means that
things work, but slower or without some command; "fail" means that nothing will run.
"""

import importlib.util
import shutil
import sys
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from merino_edge.errors import MerinoError, MissingDependencyError
from merino_edge.formats.measurement import DeviceInfo
from merino_edge.runtime import device_info as device
from merino_edge.runtime.conditions import BUSY_LOAD, snapshot
from merino_edge.runtime.native_library import ABI_VERSION, NativeLibrary
from merino_edge.runtime.rails import find_rails, sysfs_source

HOST_PYTHON = (3, 10)
MIB = 1 << 20
WANTED_PACKAGES = ("numpy", "tokenizers", "onnxruntime", "torch", "onnx", "pycuda")


class Check(NamedTuple):
    """A verdict.

    Attributes:
        name: What was looked at.
        status: "ok", "warn" or "fail".
        found: The facts, with values.
        why: What follows from them; empty if ok.
        mend: The command that helps; empty if ok, or if none does.
    """

    name: str
    status: str
    found: str
    why: str = ""
    mend: str = ""


class Gpu(NamedTuple):
    """What a library of CUDA says: the device it finds, or why it finds none."""

    device: str = ""
    problem: str = ""


class Native(NamedTuple):
    """What the native decoder's library says of itself, or why there is none."""

    library: str = ""
    problem: str = ""
    mend: str = ""


class Facts(NamedTuple):
    """What the checks look at; ``gpu`` is None where no library of CUDA is installed."""

    root: str
    python: Tuple[int, ...]
    packages: Dict[str, Optional[str]]
    device: DeviceInfo
    free_disk_bytes: int
    gpu: Optional[Gpu] = None
    has_tensorrt: bool = False
    native: Native = Native(problem="not looked for")

    @property
    def is_jetson(self) -> bool:
        """Whether this is one of NVIDIA's boards."""
        return self.device.l4t is not None or "Jetson" in self.device.model

    @property
    def is_host(self) -> bool:
        """Whether the workstation's commands can run here."""
        return self.python >= HOST_PYTHON and not self.is_jetson


def observe(root: str = "/", folder: str = ".") -> Facts:
    """Gather the facts of this machine; ``folder`` is where bundles will be written."""
    return Facts(
        root=root,
        python=tuple(sys.version_info[:3]),
        packages=device.package_versions(WANTED_PACKAGES),
        device=device.device_info(root),
        free_disk_bytes=shutil.disk_usage(folder).free,
        gpu=_look_for_gpu(),
        has_tensorrt=importlib.util.find_spec("tensorrt") is not None,
        native=_look_for_native(),
    )


def _look_for_native() -> Native:
    try:
        library = NativeLibrary()
    except MissingDependencyError as error:
        return Native(problem=error.message, mend=error.hint or "")
    kernels = library.kernels()
    words = "ABI {}, {} kernels (of {}), up to {} threads, {}".format(
        ABI_VERSION,
        kernels[0],
        ", ".join(kernels),
        library.call.me_usable_threads(),
        library.path,
    )
    return Native(library=words)


def _look_for_gpu() -> Optional[Gpu]:
    from merino_edge.runtime.cuda.open import open_cuda

    try:
        cuda = open_cuda()
    except MissingDependencyError:
        return None
    except MerinoError as error:
        return Gpu(problem=error.message)
    words = "{} (compute capability {}.{}) through {}{}".format(
        cuda.device_name,
        cuda.compute_capability[0],
        cuda.compute_capability[1],
        cuda.name,
        "" if cuda.can_capture else ", without graphs",
    )
    cuda.close()
    return Gpu(device=words)


def examine(facts: Facts) -> List[Check]:
    """Every check that applies to this machine, in the order a person would look."""
    verdicts = [check(facts) for check in CHECKS]
    return [verdict for verdict in verdicts if verdict is not None]


def _python(facts: Facts) -> Check:
    version = ".".join(str(part) for part in facts.python)
    if facts.python < (3, 6):
        return Check("python", "fail", version, "3.6 is the oldest that works.", "install Python 3")
    scope = "every command" if facts.python >= HOST_PYTHON else "run, bench, verify, inspect"
    return Check("python", "ok", "{}: {}".format(version, scope))


def _board(facts: Facts) -> Optional[Check]:
    if not facts.is_jetson:
        return None
    info = facts.device
    found = "{}, L4T {}, JetPack {}".format(
        info.model, info.l4t or "unknown", info.jetpack or "unknown"
    )
    if info.l4t is not None and info.l4t.startswith("32.") and not info.l4t.startswith("32.7"):
        why = "JetPack 4.6.1 (L4T 32.7.1) brings TensorRT 8.2; older ones are not tested."
        return Check("board", "warn", found, why, "write a new SD card with JetPack 4.6.1 or later")
    return Check("board", "ok", found)


def _numpy(facts: Facts) -> Check:
    return _package(facts, "numpy", "fail", "nothing runs without it.", "1.19.5")


def _tokenizers(facts: Facts) -> Check:
    return _package(facts, "tokenizers", "warn", "only token ids can go in and out.", "0.12.1")


def _onnxruntime(facts: Facts) -> Check:
    why = "models run on the numpy reference, which is slow."
    return _package(facts, "onnxruntime", "warn", why, "1.10.0")


def _native(facts: Facts) -> Check:
    """The first choice on a CPU; without it ONNX Runtime takes over, where there is a graph."""
    if facts.native.library:
        return Check("native", "ok", facts.native.library)
    why = "bundles for it run on ONNX Runtime if they hold a graph, or on numpy, which is slow."
    return Check("native", "warn", facts.native.problem, why, facts.native.mend)


def _host_packages(facts: Facts) -> Optional[Check]:
    if not facts.is_host:
        return None
    versions = {name: facts.packages.get(name) for name in ("torch", "onnx")}
    found = ", ".join("{} {}".format(n, v or "not installed") for n, v in versions.items())
    if all(versions.values()):
        return Check("host packages", "ok", found)
    why = "train, import and build need them; search, run and bench do not."
    return Check("host packages", "warn", found, why, "pip install 'merino-edge[host]'")


def _cpu(facts: Facts) -> Check:
    features = device.cpu_features(facts.root)
    needed = "asimd" if facts.device.machine == "aarch64" else "avx2"
    known = [n for n in ("avx2", "fma", "avx512f", "asimd", "asimddp", "fphp") if n in features]
    found = "{}, {} cores, {}".format(
        facts.device.cpu, facts.device.n_cores, " ".join(known) or "features unknown"
    )
    if features and needed not in features:
        return Check("cpu", "warn", found, "without {} models run slowly.".format(needed))
    return Check("cpu", "ok", found)


def _openblas(facts: Facts) -> Optional[Check]:
    if facts.device.machine != "aarch64" or facts.packages.get("numpy") != "1.19.5":
        return None
    # our own environment may have been mended at import; what counts is what the shell gave
    given = (device.read_text(facts.root, "/proc/self/environ") or "").split("\0")
    values = [line.partition("=")[2] for line in given if line.startswith("OPENBLAS_CORETYPE=")]
    if values:
        return Check("openblas", "ok", "OPENBLAS_CORETYPE={}".format(values[0]))
    why = (
        "numpy 1.19.5 ends in 'Illegal instruction' in programs that import it before merino_edge."
    )
    mend = "echo 'export OPENBLAS_CORETYPE=ARMV8' >> ~/.bashrc"
    return Check("openblas", "warn", "OPENBLAS_CORETYPE is not set", why, mend)


def _memory(facts: Facts) -> Check:
    info = device.meminfo_bytes(facts.root)
    available = info.get("MemAvailable", 0)
    found = "{} of {} MiB available".format(available // MIB, info.get("MemTotal", 0) // MIB)
    mend = "sudo systemctl isolate multi-user.target" if facts.is_jetson else "close other programs"
    if available < 256 * MIB:
        return Check("memory", "fail", found, "no model fits.", mend)
    if available < 1024 * MIB:
        return Check("memory", "warn", found, "models above 100 M parameters may not fit.", mend)
    return Check("memory", "ok", found)


def _swap(facts: Facts) -> Check:
    info = device.meminfo_bytes(facts.root)
    total = info.get("SwapTotal", 0)
    found = "{} MiB".format(total // MIB)
    if info.get("MemTotal", 0) >= 6144 * MIB or total >= 2048 * MIB:
        return Check("swap", "ok", found)
    why = "building an engine on the board needs more than its memory for a moment."
    mend = (
        "sudo fallocate -l 4G /swapfile && sudo chmod 600 /swapfile && "
        "sudo mkswap /swapfile && sudo swapon /swapfile"
    )
    return Check("swap", "warn", found, why, mend)


def _disk(facts: Facts) -> Check:
    free = facts.free_disk_bytes
    found = "{} MiB free here".format(free // MIB)
    if free < 200 * MIB:
        return Check("disk", "fail", found, "bundles cannot be written.", "df -h . && du -xsh *")
    if free < 2048 * MIB:
        return Check("disk", "warn", found, "a few bundles will fill it.", "df -h . && du -xsh *")
    return Check("disk", "ok", found)


def _load(facts: Facts) -> Optional[Check]:
    load = snapshot(facts.root).load
    if load is None:
        return None
    found = "load {:.2f} on {} cores".format(load, facts.device.n_cores)
    if load > BUSY_LOAD * facts.device.n_cores:
        return Check("load", "warn", found, "timings taken now will be off.", "top -o %CPU")
    return Check("load", "ok", found)


def _tensorrt(facts: Facts) -> Optional[Check]:
    if not facts.is_jetson:
        return None
    info = facts.device
    found = "TensorRT {}, CUDA {}, pycuda {}".format(
        info.tensorrt or "not found",
        info.cuda or "not found",
        facts.packages.get("pycuda") or "none",
    )
    if info.tensorrt is None or info.cuda is None:
        why = "the GPU cannot be used."
        return Check("tensorrt", "warn", found, why, "sudo apt install nvidia-jetpack")
    return Check("tensorrt", "ok", found)


def _gpu(facts: Facts) -> Optional[Check]:
    """Where a library of CUDA is, a device should be; elsewhere nobody misses it."""
    if facts.gpu is None and not facts.is_jetson:
        return None
    if facts.gpu is None or facts.gpu.problem:
        found = facts.gpu.problem if facts.gpu else "neither libcudart nor pycuda"
        mend = "sudo apt install nvidia-jetpack" if facts.is_jetson else "nvidia-smi"
        return Check("gpu", "warn", found, "engines cannot be run.", mend)
    return Check("gpu", "ok", facts.gpu.device)


def _tensorrt_python(facts: Facts) -> Optional[Check]:
    """The module belongs to the system's Python, so a plain virtual environment misses it."""
    if not facts.is_jetson:
        return None
    if facts.has_tensorrt:
        return Check("tensorrt module", "ok", "this Python can import it")
    why = "engines can neither be built nor run from this Python."
    mend = "python3 -m venv --system-site-packages ENV, with /usr/bin/python3"
    return Check("tensorrt module", "warn", "this Python cannot import it", why, mend)


def _power(facts: Facts) -> Optional[Check]:
    if not facts.is_jetson:
        return None
    mode = device.power_mode(facts.root)
    if mode is None:
        why = "a 5 W mode that survived a reboot would halve every timing unnoticed."
        return Check("power mode", "warn", "not readable", why, "sudo nvpmodel -q")
    if mode not in ("MAXN", "0"):
        why = "cores and clocks are limited, also after a reboot."
        return Check("power mode", "warn", mode, why, "sudo nvpmodel -m 0 && sudo jetson_clocks")
    return Check("power mode", "ok", mode)


def _rails(facts: Facts) -> Optional[Check]:
    """Only boards have them; on the others nobody misses them."""
    names = [rail.name for rail in find_rails(facts.root)]
    source = sysfs_source(facts.root)
    if source is not None:
        parts = [name for name in names if name != source.name]
        found = "input {}{}".format(source.name, ", beside " + ", ".join(parts) if parts else "")
        return Check("power rails", "ok", found)
    if not facts.is_jetson:
        return None
    found = "none of them the input: " + ", ".join(names) if names else "none"
    return Check("power rails", "warn", found, "energy is not measured, unless jtop tells it.")


def _package(facts: Facts, name: str, without: str, why: str, last_for_36: str) -> Check:
    version = facts.packages.get(name)
    if version is not None:
        return Check(name, "ok", version)
    if facts.python >= (3, 7):
        return Check(name, without, "not installed", why, "pip install {}".format(name))
    # pip 9 and 18, which these boards bring, do not know the wheels' platform tag
    mend = "python3 -m pip install pip==21.3.1 && python3 -m pip install {}=={}"
    return Check(name, without, "not installed", why, mend.format(name, last_for_36))


CHECKS: Tuple[Callable[[Facts], Optional[Check]], ...] = (
    _python,
    _board,
    _numpy,
    _openblas,
    _tokenizers,
    _onnxruntime,
    _native,
    _host_packages,
    _cpu,
    _memory,
    _swap,
    _disk,
    _load,
    _tensorrt,
    _tensorrt_python,
    _gpu,
    _power,
    _rails,
)
