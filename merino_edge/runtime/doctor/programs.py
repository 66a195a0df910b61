"""What NVIDIA's and Debian's own programs say, where no file says it: nvpmodel, tegrastats, dpkg.

The one idea: a program is asked by its name on PATH, waits for no terminal, and has seconds to
answer; whatever goes wrong, the answer is "nothing said", never an error. Files are preferred to
programs: they need no rights and cannot hang. Each answer is read by a function that knows its
form and nothing else.
"""

import os
import re
import shutil
import subprocess
from typing import Dict, List, Optional, Tuple

from merino_edge.runtime.device_info import read_text

TIMEOUT_S = 3.0
# ssh and systemd often leave them out of PATH, and nvpmodel is in one of them.
_MORE_FOLDERS = ("/usr/sbin", "/sbin")
# tegrastats: "CPU@34.5C", "cpu@45.25C", "PMIC@100C"; PMIC-Die of a Nano always reads 100 C.
_TEMPERATURE = re.compile(r"\b(cpu|gpu|tj|soc\d?|thermal)@(\d+(?:\.\d+)?)C", re.IGNORECASE)
_PACKAGE = re.compile(r"^Package: (\S+)$.*?^Version: (\S+)$", re.MULTILINE | re.DOTALL)


def power_mode_said() -> Optional[str]:
    """The mode of ``nvpmodel -q``, by name; None where it does not say (older ones want root).

    It prints "NV Power Mode: MAXN" (older ones "NVPM WARN" lines before it), then the number.
    """
    match = re.search(r"^NV Power Mode: *(\S+)", _said(["nvpmodel", "-q"]) or "", re.MULTILINE)
    return match.group(1) if match else None


def hottest_said_c() -> Optional[float]:
    """The hottest sensor of a line of ``tegrastats``; None where it does not say."""
    line = _first_line(["tegrastats", "--interval", "500"]) or ""
    values = [float(celsius) for _, celsius in _TEMPERATURE.findall(line)]
    return max(values) if values else None


def debian_versions(root: str, names: Tuple[str, ...]) -> Dict[str, str]:
    """Versions of installed packages, by name; what is not installed is not there.

    dpkg's own file is read; where there is none (it has moved), dpkg-query is asked.
    """
    text = read_text(root, "/var/lib/dpkg/status")
    if text is None:
        form = "Package: ${Package}\nStatus: ${Status}\nVersion: ${Version}\n\n"
        text = _said(["dpkg-query", "-W", "-f=" + form] + list(names)) if root == "/" else None
    found = {}
    for paragraph in (text or "").split("\n\n"):
        match = _PACKAGE.search(paragraph)
        if match and match.group(1) in names and " installed" in paragraph:
            found[match.group(1)] = match.group(2)
    return found


def _said(words: List[str]) -> Optional[str]:
    """Its output; None where the program is missing or hangs. Its exit code is not looked at."""
    process = _start(words)
    if process is None:
        return None
    try:
        return process.communicate(timeout=TIMEOUT_S)[0].decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)


def _first_line(words: List[str]) -> Optional[str]:
    """The first line of a program that does not end by itself."""
    import select

    process = _start(words)
    if process is None or process.stdout is None:
        return None
    try:
        if not select.select([process.stdout], [], [], TIMEOUT_S)[0]:
            return None
        return process.stdout.readline().decode("utf-8", "replace")
    finally:
        _end(process)


def _start(words: List[str]) -> Optional["subprocess.Popen[bytes]"]:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath),) + _MORE_FOLDERS)
    program = shutil.which(words[0], path=path)
    if program is None:
        return None
    try:
        return subprocess.Popen(
            [program] + words[1:],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.kill()
    if process.stdout is not None:
        process.stdout.close()
    process.wait()
