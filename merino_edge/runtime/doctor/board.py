"""NVIDIA's boards: which one, what JetPack brought, and whether this user reaches the GPU.

The one idea: what JetPack brings hangs together (CUDA belongs to the driver, TensorRT to CUDA, its
module to the system's Python), so each part is looked at by itself and mended by JetPack's own
packages. On other machines none of these checks is made, but the GPU's where one is.
"""

import re
from typing import Optional

from merino_edge.runtime.device_info import read_text
from merino_edge.runtime.doctor.facts import Facts
from merino_edge.runtime.doctor.verdict import Check

_JETPACK = "sudo apt install nvidia-jetpack"
# What each group is for; one that a board does not have is not missed.
_NEEDED_GROUPS = {"video": "the GPU", "render": "the GPU"}
_USEFUL_GROUPS = {"i2c": "sensors on the bus", "docker": "containers", "jtop": "jetson-stats"}


def board(facts: Facts) -> Optional[Check]:
    """Which board, with which Linux of NVIDIA."""
    if not facts.is_jetson:
        return None
    info = facts.device
    found = "{}, L4T {}, JetPack {}".format(
        info.model, info.l4t or "unknown", jetpack_version(facts) or "unknown"
    )
    if info.l4t is not None and info.l4t.startswith("32.") and not info.l4t.startswith("32.7"):
        why = "JetPack 4.6.1 (L4T 32.7.1) brings TensorRT 8.2; older ones are not tested."
        return Check("board", "warn", found, why, "write a new SD card with JetPack 4.6.1 or later")
    return Check("board", "ok", found)


def jetpack(facts: Facts) -> Optional[Check]:
    """Whether the package that stands for all of JetPack is installed, which an image may lack."""
    if not facts.is_jetson:
        return None
    package = facts.debian.get("nvidia-jetpack")
    version = jetpack_version(facts)
    if package is None and (facts.device.cuda is None or facts.device.tensorrt is None):
        why = "the image was written without it; CUDA and TensorRT come with it."
        return Check("jetpack", "warn", "no package nvidia-jetpack", why, _JETPACK)
    return Check("jetpack", "ok", version or "unknown, with CUDA and TensorRT in place")


def jetpack_version(facts: Facts) -> Optional[str]:
    """By the board's Linux, else by the package: "6.2" of "6.2+b77"."""
    package = facts.debian.get("nvidia-jetpack")
    return facts.device.jetpack or (re.split("[+-]", package)[0] if package else None)


def cuda(facts: Facts) -> Optional[Check]:
    """CUDA, which belongs to the board's driver."""
    if not facts.is_jetson:
        return None
    if facts.device.cuda is None:
        return Check("cuda", "warn", "not found", "the GPU cannot be used.", _JETPACK)
    return Check("cuda", "ok", facts.device.cuda)


def tensorrt(facts: Facts) -> Optional[Check]:
    """TensorRT's library."""
    if not facts.is_jetson:
        return None
    if facts.device.tensorrt is None:
        return Check("tensorrt", "warn", "not found", "engines cannot be built or run.", _JETPACK)
    packages = [facts.debian.get(name) for name in ("libnvinfer8", "libnvinfer10")]
    exact = next((version for version in packages if version), facts.device.tensorrt)
    return Check("tensorrt", "ok", exact)


def tensorrt_python(facts: Facts) -> Optional[Check]:
    """The module belongs to the system's Python, so a plain virtual environment misses it."""
    if not facts.is_jetson:
        return None
    if facts.has_tensorrt:
        return Check("tensorrt module", "ok", "this Python can import it")
    why = "engines can neither be built nor run from this Python."
    mend = "python3 -m venv --system-site-packages ENV, with /usr/bin/python3"
    if facts.debian and "python3-libnvinfer" not in facts.debian:
        mend = "sudo apt install python3-libnvinfer"
    return Check("tensorrt module", "warn", "this Python cannot import it", why, mend)


def gpu(facts: Facts) -> Optional[Check]:
    """Where a library of CUDA is, a device should be; elsewhere nobody misses it."""
    if facts.gpu is None and not facts.is_jetson:
        return None
    if facts.gpu is None or facts.gpu.problem:
        found = facts.gpu.problem if facts.gpu else "neither libcudart nor pycuda"
        mend = _JETPACK if facts.is_jetson else "nvidia-smi"
        return Check("gpu", "warn", found, "engines cannot be run.", mend)
    return Check("gpu", "ok", facts.gpu.device)


def groups(facts: Facts) -> Optional[Check]:
    """The devices of a board belong to groups; a user who is added has to log in again."""
    if not facts.is_jetson or facts.user is None:
        return None
    if facts.user.is_root:
        return Check("groups", "ok", "root, who needs none")
    there = re.findall(r"^([\w-]+):", read_text(facts.root, "/etc/group") or "", re.MULTILINE)
    wanted = {**_NEEDED_GROUPS, **_USEFUL_GROUPS}
    lacks = [name for name in wanted if name in there and name not in facts.user.groups]
    mine = [name for name in wanted if name in facts.user.groups]
    found = "{} is in {}".format(facts.user.name, ", ".join(mine) or "none of the board's groups")
    if not lacks:
        return Check("groups", "ok", found)
    found += ", not in " + ", ".join(lacks)
    needed = any(name in _NEEDED_GROUPS for name in lacks)
    aims = list(dict.fromkeys(wanted[name] for name in lacks))  # each aim once, in order
    why = "without them {} cannot be used.".format(" and ".join(aims))
    mend = "sudo usermod -aG {} {}, and log in again".format(",".join(lacks), facts.user.name)
    return Check("groups", "warn" if needed else "ok", found, why if needed else "", mend)
