"""What the checks look at, gathered once: a machine as a record.

The one idea: a check is a function of these facts and of files below ``root``, so to a test a
recorded tree and a record *are* a machine. Whatever needs this process (its Python, its libraries,
its user, programs on PATH) is asked here, and nowhere else.
"""

import os
import shutil
import sys
from typing import Dict, NamedTuple, Optional, Tuple

from merino_edge.errors import MerinoError, MissingDependencyError
from merino_edge.formats.measurement import DeviceInfo
from merino_edge.runtime import device_info as device
from merino_edge.runtime.doctor import programs
from merino_edge.runtime.native_library import ABI_VERSION, NativeLibrary

HOST_PYTHON = (3, 10)
WANTED_PACKAGES = ("numpy", "tokenizers", "onnxruntime", "torch", "onnx", "pycuda")
NVIDIA_PACKAGES = ("nvidia-jetpack", "libnvinfer8", "libnvinfer10", "python3-libnvinfer")


class Gpu(NamedTuple):
    """What a library of CUDA says: the device it finds, or why it finds none."""

    device: str = ""
    problem: str = ""


class Native(NamedTuple):
    """What the native decoder's library says of itself, or why there is none."""

    library: str = ""
    problem: str = ""
    mend: str = ""


class User(NamedTuple):
    """Who asks.

    Attributes:
        name: Login name, or the number where it has none.
        groups: Names of the groups that this process is in.
        is_root: Whether groups do not matter.
    """

    name: str
    groups: Tuple[str, ...]
    is_root: bool = False


class Facts(NamedTuple):
    """What the checks look at.

    Attributes:
        root: Where the machine's files begin.
        python: Version of this process.
        packages: Versions of Python's packages; None for what is missing.
        device: The machine, as measurements describe it.
        free_disk_bytes: Where bundles will be written.
        gpu: None where no library of CUDA is installed.
        has_tensorrt: This Python can import it.
        native: The native decoder.
        user: Who asks; None is "not asked".
        debian: Versions of NVIDIA's Debian packages that are installed.
        power_mode: As nvpmodel says it, where its file is not readable.
        temp_c: As tegrastats says it, where the kernel shows none.
    """

    root: str
    python: Tuple[int, ...]
    packages: Dict[str, Optional[str]]
    device: DeviceInfo
    free_disk_bytes: int
    gpu: Optional[Gpu] = None
    has_tensorrt: bool = False
    native: Native = Native(problem="not looked for")
    user: Optional[User] = None
    debian: Dict[str, str] = {}
    power_mode: Optional[str] = None
    temp_c: Optional[float] = None

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
    facts = Facts(
        root=root,
        python=tuple(sys.version_info[:3]),
        packages=device.package_versions(WANTED_PACKAGES),
        device=device.device_info(root),
        free_disk_bytes=shutil.disk_usage(folder).free,
        gpu=_look_for_gpu(),
        has_tensorrt=device.is_installed("tensorrt"),
        native=_look_for_native(),
        user=_user(),
    )
    return _ask_programs(facts) if facts.is_jetson else facts


def _ask_programs(facts: Facts) -> Facts:
    """A board's own programs, for what its files did not tell."""
    root = facts.root
    mode, temp_c = device.power_mode(root), device.hottest_c(root)
    return facts._replace(
        debian=programs.debian_versions(root, NVIDIA_PACKAGES),
        power_mode=mode or programs.power_mode_said(),
        temp_c=programs.hottest_said_c() if temp_c is None else temp_c,
    )


def _user() -> Optional[User]:
    try:
        import grp
        import pwd
    except ImportError:  # Windows has neither
        return None
    numbers = set(os.getgroups()) | {os.getegid()}
    names = tuple(group.gr_name for group in grp.getgrall() if group.gr_gid in numbers)
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user that has no entry
        name = str(os.geteuid())
    return User(name, names, os.geteuid() == 0)


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
