"""Python, its packages, the native decoder, and the processor that they run on.

The one idea: what is missing is named with the exact words that install it *here*; a board's
Python 3.6 takes other versions, and first another pip, than a workstation's.
"""

from typing import Optional

from merino_edge.runtime import device_info as device
from merino_edge.runtime.doctor.facts import HOST_PYTHON, Facts
from merino_edge.runtime.doctor.verdict import Check


def python(facts: Facts) -> Check:
    """What this Python is good for."""
    version = ".".join(str(part) for part in facts.python)
    if facts.python < (3, 6):
        return Check("python", "fail", version, "3.6 is the oldest that works.", "install Python 3")
    scope = "every command" if facts.python >= HOST_PYTHON else "run, bench, verify, inspect"
    return Check("python", "ok", "{}: {}".format(version, scope))


def numpy(facts: Facts) -> Check:
    """Nothing runs without it."""
    return _package(facts, "numpy", "fail", "nothing runs without it.", "1.19.5")


def tokenizers(facts: Facts) -> Check:
    """Text in and out."""
    return _package(facts, "tokenizers", "warn", "only token ids can go in and out.", "0.12.1")


def onnxruntime(facts: Facts) -> Check:
    """The graph of a bundle on a CPU."""
    why = "models run on the numpy reference, which is slow."
    return _package(facts, "onnxruntime", "warn", why, "1.10.0")


def native(facts: Facts) -> Check:
    """The first choice on a CPU; without it ONNX Runtime takes over, where there is a graph."""
    if facts.native.library:
        return Check("native", "ok", facts.native.library)
    why = "bundles for it run on ONNX Runtime if they hold a graph, or on numpy, which is slow."
    return Check("native", "warn", facts.native.problem, why, facts.native.mend)


def host_packages(facts: Facts) -> Optional[Check]:
    """What only a workstation needs."""
    if not facts.is_host:
        return None
    versions = {name: facts.packages.get(name) for name in ("torch", "onnx")}
    found = ", ".join("{} {}".format(n, v or "not installed") for n, v in versions.items())
    if all(versions.values()):
        return Check("host packages", "ok", found)
    why = "train, import and build need them; search, run and bench do not."
    return Check("host packages", "warn", found, why, "pip install 'merino-edge[host]'")


def cpu(facts: Facts) -> Check:
    """The processor, and the instructions that make it quick."""
    features = device.cpu_features(facts.root)
    needed = "asimd" if facts.device.machine == "aarch64" else "avx2"
    known = [n for n in ("avx2", "fma", "avx512f", "asimd", "asimddp", "fphp") if n in features]
    found = "{}, {}, {} cores, {}".format(
        facts.device.machine,
        facts.device.cpu,
        facts.device.n_cores,
        " ".join(known) or "features unknown",
    )
    if features and needed not in features:
        return Check("cpu", "warn", found, "without {} models run slowly.".format(needed))
    return Check("cpu", "ok", found)


def openblas(facts: Facts) -> Optional[Check]:
    """numpy 1.19.5 on ARM dies at import, unless a variable names the processor's kind."""
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


def _package(facts: Facts, name: str, without: str, why: str, last_for_36: str) -> Check:
    version = facts.packages.get(name)
    if version is not None:
        return Check(name, "ok", version)
    if facts.python >= (3, 7):
        return Check(name, without, "not installed", why, "pip install {}".format(name))
    # pip 9 and 18, which these boards bring, do not know the wheels' platform tag
    mend = "python3 -m pip install pip==21.3.1 && python3 -m pip install {}=={}"
    return Check(name, without, "not installed", why, mend.format(name, last_for_36))
