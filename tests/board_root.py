"""A folder that stands for a board: its files, and doubles of its commands that keep what they did.

The doubles promise what setup.sh and power_mode.sh rely on and no more: nvpmodel and systemctl
remember, swapon shows in /proc/swaps, jetson_clocks refuses to overwrite what it stored, and each
writes its words into ``calls``. Whatever else those scripts call is the real thing: the shell, the
Python 3.6, pip and the tools of the system.
"""

import base64
import hashlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import zipfile

from repository import ROOT

BOARD_FILES = {
    "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref\n",
    "etc/environment": 'PATH="/usr/local/sbin:/usr/local/bin"',  # JetPack's ends without a newline
    "etc/fstab": "/dev/root / ext4 defaults 0 1\n",
    "etc/passwd": "root:x:0:0::/:/bin/sh\n",
    "etc/systemd/system/nvzramconfig.service": "[Unit]\n",
    "proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
    "proc/meminfo": "MemTotal:        4059216 kB\nMemAvailable:    3021012 kB\n",
    "proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 507396 0 5\n",
    "proc/sys/kernel/random/boot_id": "one\n",
    "usr/lib/python3.6/dist-packages/tensorrt/__init__.py": "",
    "var/lib/placeholder": "",
    "usr/local/bin/other": "",
    "opt/placeholder": "",
}
LOG = 'printf "%s\\n" "$(basename "$0") $*" >>"$BOARD/calls"\n'
FAIL = '[ "$(wc -l <"$BOARD/calls")" != "${FAIL_AT:-}" ] || exit 1\n'
SWAPS = '"$MERINO_SETUP_ROOT/proc/swaps"'
USERS = '"$MERINO_SETUP_ROOT/etc/passwd"'
CHANGING = {
    "fallocate": ': >"$3"',
    "mkswap": '[ -e "$1" ]',
    "swapon": f'printf "%s file 4194300 0 -2\\n" "$1" >>{SWAPS}',
    "swapoff": f'grep -v "^$1 " {SWAPS} >"$BOARD/s"; cat "$BOARD/s" >{SWAPS}',
    "useradd": f'for name; do :; done; printf "%s:x:999:\\n" "$name" >>{USERS}',
    "userdel": f'grep -v "^$1:" {USERS} >"$BOARD/u"; cat "$BOARD/u" >{USERS}',
    "apt-get": "true",
}
ASKING = {"id": "echo 0", "sync": "true"}
# Both ask and change: what asks is not written into the calls.
MIXED = {
    "nvpmodel": """
case $1 in
  -q) printf 'NV Power Mode: X\\n%s\\n' "$(cat "$BOARD/mode")" ;;
  -m) LOGGED; printf '%s\\n' "$2" >"$BOARD/mode" ;;
esac""",
    "jetson_clocks": """LOGGED
case ${1:-} in
  --store) [ ! -e "$2" ] || exit 1; cat "$BOARD/clocks" >"$2" ;;
  --restore) cat "$2" >"$BOARD/clocks" ;;
  *) echo highest >"$BOARD/clocks" ;;
esac""",
    "systemctl": """
case $1 in
  get-default) cat "$BOARD/default" ;;
  is-enabled) [ -e "$BOARD/enabled/$2" ] && echo enabled || { echo disabled; exit 1; } ;;
  set-default) LOGGED; echo "$2" >"$BOARD/default" ;;
  enable) LOGGED; shift; for unit; do : >"$BOARD/enabled/$unit"; done ;;
  disable) LOGGED; for unit; do rm -f "$BOARD/enabled/$unit"; done ;;
  daemon-reload) LOGGED ;;
  *) exit 64 ;;
esac""",
}
FACTS = {"mode": "1\n", "clocks": "free\n", "default": "graphical.target\n"}
CONSOLE = "[console_scripts]\nmerino-edge = merino_edge_stand_in:main\n"


class Board:
    """A folder with ``root`` (the board's files), ``bin`` (the doubles) and their memory."""

    def __init__(self, folder, python):
        """Lay it out; ``python`` is a Python 3.6."""
        self.folder, self.root, self.python = folder, folder / "root", python
        for name, text in BOARD_FILES.items():
            _write(self.root / name, text)
        for name, text in FACTS.items():
            _write(folder / name, text)
        _write(folder / "enabled/nvzramconfig", "")
        _write(folder / "calls", "")
        logged = (LOG + FAIL).replace("\n", "; ").rstrip("; ")
        doubles = {name: LOG + FAIL + body for name, body in CHANGING.items()}
        doubles.update(ASKING)
        doubles.update({name: body.replace("LOGGED", logged) for name, body in MIXED.items()})
        for name, body in doubles.items():
            _write(folder / "bin" / name, f"#!/bin/sh\n{body}\n", 0o755)

    def run(self, script, *words, shell="sh", fail_at=0, network=False):
        """Run a script as the board would.

        Args:
            script: Its path.
            words: Its arguments.
            shell: What runs it.
            fail_at: The call of a double that fails, counted from here on; 0 for none.
            network: Also hand over how this machine reaches its package index.
        """
        command = [shell, script, *words]
        return subprocess.run(
            list(map(str, command)),
            env={**(os.environ if network else {}), **self.environment(fail_at, network)},
            capture_output=True,
            text=True,
        )

    def environment(self, fail_at, network):
        """What the scripts see."""
        return {
            "PATH": f"{self.folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
            "MERINO_SETUP_ROOT": str(self.root),
            "BOARD": str(self.folder),
            "FAIL_AT": str(self.n_calls() + fail_at) if fail_at else "",
            "HOME": str(self.folder),
            **({} if network else {"PIP_CONFIG_FILE": os.devnull}),
        }

    def calls(self):
        """What the doubles were asked to change, in order."""
        return (self.folder / "calls").read_text("utf-8").splitlines()

    def n_calls(self):
        """How many of those there were."""
        return len(self.calls())

    def snapshot(self):
        """All that setup.sh could have changed: files with mode and content, and the doubles'."""
        found = {name: (self.folder / name).read_text("utf-8") for name in FACTS}
        found["enabled"] = sorted(path.name for path in (self.folder / "enabled").iterdir())
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if path.is_symlink():
                found[name] = os.readlink(path)
            elif path.is_file():
                found[name] = (path.stat().st_mode, path.read_bytes())
            else:
                found[name] = path.stat().st_mode
        return found


def load_wheelhouse():
    """The module jetson/wheelhouse.py, which lies in no package."""
    spec = importlib.util.spec_from_file_location("wheelhouse", ROOT / "jetson/wheelhouse.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_tiny_kit(folder, python, version="1.0"):
    """A kit whose wheelhouse holds two wheels: a program of one line, and a real pip.

    The pip is the one that every Python 3.6 carries (18.1), under the name of the one that boards
    get: what is tried here is how setup.sh calls it. The real wheelhouse has tests of its own.
    """
    wheelhouse = load_wheelhouse()
    wheelhouse.copy_kit(folder)
    (folder / "wheelhouse").mkdir()
    wheel = write_wheel(folder / "wheelhouse", version)
    library = subprocess.run(
        [python, "-c", "import ensurepip; print(ensurepip.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (bundled,) = (pathlib.Path(library).parent / "_bundled").glob("pip-*.whl")
    shutil.copy(bundled, folder / "wheelhouse/pip-21.3.1-py3-none-any.whl")
    _write(folder / "wheelhouse/requirements.txt", wheelhouse.pinned(wheel) + "\n")
    wheelhouse.write_sums(folder)
    return folder


def write_wheel(folder, version):
    """A wheel of merino-edge's name that prints its version."""
    info = f"merino_edge-{version}.dist-info"
    files = {
        "merino_edge_stand_in.py": f"def main():\n    print({version!r})\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: merino-edge\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": CONSOLE,
    }
    record = "".join(f"{name},{_digest(text)},{len(text)}\n" for name, text in files.items())
    path = folder / f"merino_edge-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(name, text)
    return path


def _digest(text):
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def _write(path, text, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
