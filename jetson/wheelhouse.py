"""Everything a board needs to install without a network, in one folder: made on the workstation.

The one idea: a board of JetPack 4.6 has an old pip and often no network, so nothing is decided
there. Here the pinned wheels are fetched for its Python and its processor, our own is compiled for
it, one requirements file names each of them by its SHA-256, and pip, asked with the board's
platform, must find the whole of it complete without an index before the folder gets its name.

    python jetson/wheelhouse.py -o dist/board-kit

::

    dist/board-kit/
      setup.sh steps/ units/ power_mode.sh README.md     the kit, as it lies in jetson/
      wheelhouse/*.whl                                   for Python 3.6 on aarch64
      wheelhouse/requirements.txt                        requirements-py36.txt and our own wheel
      SHA256SUMS                                         of every file, for sha256sum -c

Needs Python 3.10, pip, and the packages of the extra "wheels" (a C compiler for other machines).
This file knows nothing of what setup.sh does with the folder.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements-py36.txt"
KIT = ["README.md", "setup.sh", "power_mode.sh", "steps", "units", "requirements-pycuda-py36.txt"]
# Ubuntu 18.04 has glibc 2.27. pip wants each tag that a wheel may carry; it does not know that a
# newer glibc runs what was made for an older one.
GLIBCS = ("2014", "_2_17", "_2_24", "_2_27")
MACHINE = "aarch64"


def platform_options(machine: str = MACHINE) -> list[str]:
    """pip's words for the board: wheels only, of CPython 3.6, for this kind of processor."""
    options = ["--only-binary=:all:", "--python-version=3.6", "--implementation=cp"]
    options += ["--abi=cp36m", "--abi=abi3", "--abi=none"]
    return options + [f"--platform=manylinux{glibc}_{machine}" for glibc in GLIBCS]


def make_kit(
    output: pathlib.Path, wheel: pathlib.Path | None = None, machine: str = MACHINE
) -> None:
    """Make the folder, or leave what was there untouched.

    Args:
        output: Its path; a kit that lies there already is replaced.
        wheel: Our own wheel for the board; None to compile it.
        machine: "x86_64" for a test that installs the kit where it was made.

    Raises:
        subprocess.CalledProcessError: pip or the compiler refused, with its own words on stderr.
        FileExistsError: At ``output`` lies something that is no kit.
    """
    if output.exists() and not (output / "SHA256SUMS").exists():
        raise FileExistsError(f"{output} is there already, and is no board kit")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=output.parent) as folder:
        kit = pathlib.Path(folder) / "kit"
        copy_kit(kit)
        fill_wheelhouse(kit / "wheelhouse", wheel, machine)
        check_complete(kit / "wheelhouse", machine)
        write_sums(kit)
        if output.exists():
            shutil.rmtree(output)
        os.replace(kit, output)


def copy_kit(kit: pathlib.Path) -> None:
    """The scripts and units that go along."""
    kit.mkdir()
    for name in KIT:
        source = HERE / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, kit / name)


def fill_wheelhouse(wheelhouse: pathlib.Path, wheel: pathlib.Path | None, machine: str) -> None:
    """The pinned wheels, our own, and the file that names them all."""
    wheelhouse.mkdir()
    fetch = ["download", "--no-deps", "--require-hashes", f"--requirement={REQUIREMENTS}"]
    pip([*fetch, f"--dest={wheelhouse}", *platform_options(machine)])
    ours = pathlib.Path(shutil.copy2(wheel or compile_wheel(wheelhouse, machine), wheelhouse))
    (wheelhouse / "requirements.txt").write_text(
        f"{REQUIREMENTS.read_text('utf-8')}\n{pinned(ours)}\n", encoding="utf-8"
    )


def compile_wheel(folder: pathlib.Path, machine: str) -> pathlib.Path:
    """Our wheel for the board, compiled beside ``folder``."""
    made = folder.parent.parent / "wheels"
    native_build = HERE.parent / "native_build.py"
    subprocess.run([sys.executable, native_build, "wheels", made], check=True)
    (wheel,) = made.glob(f"*_{machine}.whl")
    return wheel


def pinned(wheel: pathlib.Path) -> str:
    """The line of a requirements file that takes this wheel and no other."""
    name, version, *_ = wheel.name.split("-")
    return f"{name.replace('_', '-')}=={version} --hash=sha256:{sha256(wheel)}"


def check_complete(wheelhouse: pathlib.Path, machine: str) -> None:
    """Let pip resolve everything as the board will: from this folder alone.

    It writes copies that nobody needs, because only "download" takes a platform and resolves.
    """
    with tempfile.TemporaryDirectory() as folder:
        ask = ["download", "--no-index", f"--find-links={wheelhouse}", "--require-hashes"]
        ask += [f"--requirement={wheelhouse / 'requirements.txt'}", f"--dest={folder}"]
        pip([*ask, *platform_options(machine)])


def write_sums(kit: pathlib.Path) -> None:
    """SHA256SUMS over every other file, sorted by name."""
    files = sorted(path for path in kit.rglob("*") if path.is_file())
    lines = [f"{sha256(path)}  {path.relative_to(kit).as_posix()}\n" for path in files]
    (kit / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def sha256(path: pathlib.Path) -> str:
    """Of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pip(arguments: list[str]) -> None:
    """Run pip; a find-links of the user's own configuration may not slip in."""
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check", "--quiet"]
    subprocess.run(command, check=True, env={**os.environ, "PIP_FIND_LINKS": ""})


def main() -> int | str:
    """Make the kit as the options say; gives what went wrong, for ``sys.exit``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=pathlib.Path, default=pathlib.Path("dist/board-kit"))
    parser.add_argument("--wheel", type=pathlib.Path, help="our own wheel for aarch64, if made")
    options = parser.parse_args()
    try:
        make_kit(options.output, options.wheel)
    except (subprocess.CalledProcessError, OSError) as error:
        return f"wheelhouse.py: {error}"
    wheels = list((options.output / "wheelhouse").glob("*.whl"))
    n_bytes = sum(path.stat().st_size for path in wheels)
    print(f"{options.output}: {len(wheels)} wheels, {n_bytes / 1e6:.1f} MB, complete for the board")
    print(f"next: scp -r {options.output} user@board: && ssh -t user@board sudo board-kit/setup.sh")
    return 0


if __name__ == "__main__":
    sys.exit(main())
