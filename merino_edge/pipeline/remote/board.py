"""What the board is, before anything is sent to it.

The one idea: everything that would make the work fail after an hour of copying can be asked in two
short commands: which merino-edge is there and which bundles it reads, where they go, how
much room there is. The board's own ``doctor --json`` answers for the board.
"""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from merino_edge import __version__
from merino_edge.errors import BoardError, MissingDependencyError, UnsupportedError
from merino_edge.formats.manifest import SCHEMA
from merino_edge.pipeline.quantities import human
from merino_edge.pipeline.remote.link_errors import last_line
from merino_edge.pipeline.remote.ssh import Ssh

# $program the program's first word or nothing. A shell that ssh starts does not read ~/.profile, so
# ~/.local/bin, where `pip install --user` puts programs, is often not on its PATH.
_FIND_PROGRAM = """
if [ -n "$program" ]; then
  command -v "$program" | sed 's/^/program=/'
elif command -v merino-edge >/dev/null; then
  echo "program=$(command -v merino-edge)"
elif [ -x "$HOME/.local/bin/merino-edge" ]; then
  echo "program=$HOME/.local/bin/merino-edge"
elif python3 -c 'import merino_edge' 2>/dev/null; then
  echo "program=python3"; echo "module=merino_edge"
fi
exit 0
"""
_AT_HOME = """
at_home() { case $1 in "~"|"~/"*) printf %s "$HOME${1#"~"}";; *) printf %s "$1";; esac; }
"""
# $1 the folder for bundles, $2 the program's first word or nothing.
_PROBE = (
    _AT_HOME
    + """
folder=$(at_home "$1"); program=$(at_home "$2")
case $folder in /*) ;; *) folder=$HOME/$folder;; esac
for tool in dd df flock mv setsid sha256sum tail wc; do
  command -v "$tool" >/dev/null || echo "lacks=$tool"
done
mkdir -p "$folder" && echo "folder=$folder" && echo "free=$(df -Pk "$folder" | tail -n 1)"
"""
    + _FIND_PROGRAM
)
# $1 as $2 above. Writes nothing, so a board can be looked at before anything is sent to it.
_FIND = _AT_HOME + 'program=$(at_home "$1")\n' + _FIND_PROGRAM
_DOCTOR = '"$@" doctor --json </dev/null || exit 1'


@dataclass(frozen=True)
class Board:
    """A board that can be reached and has a fitting merino-edge.

    Attributes:
        program: The words that start merino-edge there.
        folder: Where bundles go, an absolute path.
        free_bytes: Room in it.
        merino_edge: Version there.
        engines: Libraries there that build engines, such as "tensorrt".
        device: What the board says of itself, as formats.measurement.DeviceInfo.
        warnings: Sentences for the user.
    """

    program: tuple[str, ...]
    folder: str
    free_bytes: int
    merino_edge: str
    engines: tuple[str, ...]
    device: dict[str, Any]
    warnings: tuple[str, ...]


def ask_board(ssh: Ssh, remote_dir: str, program: str, needs_engine: bool) -> Board:
    """Find out what is there, and refuse what cannot work.

    Args:
        ssh: An open connection.
        remote_dir: Folder for bundles; "~" is the home there, and what is relative is below it.
        program: How merino-edge starts there; "" looks for it.
        needs_engine: The bundles that shall go there need an engine.

    Raises:
        BoardError: No merino-edge there, no such folder, a system tool is missing.
        UnsupportedError: Its merino-edge reads other bundles.
        MissingDependencyError: An engine is needed, and no library there builds one.
    """
    given = shlex.split(program)
    answer = ssh.run(_PROBE, remote_dir, given[0] if given else "")
    facts = dict(line.partition("=")[::2] for line in answer.stdout.splitlines())
    _check_probe(ssh.host, facts, remote_dir, program, answer.stderr)
    words = _words(facts, given)
    about = _doctor(ssh, words)
    board = Board(
        program=words,
        folder=facts["folder"],
        free_bytes=_free_bytes(facts["free"]),
        merino_edge=str(about.get("merino_edge", "of an unknown version")),
        engines=tuple(about.get("engines", ())),
        device=about.get("device", {}),
        warnings=_warnings(about),
    )
    _check_schema(ssh.host, board, about.get("bundle_schema"))
    if needs_engine:
        _check_engine(ssh.host, board)
    return board


def ask_doctor(ssh: Ssh, program: str) -> dict[str, Any]:
    """What the board's own ``doctor --json`` says; nothing is written there.

    Args:
        ssh: An open connection.
        program: How merino-edge starts there; "" looks for it.

    Raises:
        BoardError: No merino-edge there, or it does not work.
    """
    given = shlex.split(program)
    answer = ssh.run(_FIND, given[0] if given else "")
    facts = dict(line.partition("=")[::2] for line in answer.stdout.splitlines())
    if "program" not in facts:
        raise _no_merino_edge(ssh.host, program)
    return _doctor(ssh, _words(facts, given))


def check_room(ssh: Ssh, board: Board, missing_bytes: int, engine_bytes: int) -> None:
    """Refuse to fill the disk with what is to be copied, and with engines about as large.

    Raises:
        BoardError: There is not enough room.
    """
    needed = missing_bytes + engine_bytes
    if board.free_bytes >= needed:
        return
    raise BoardError(
        f"'{ssh.host}' has {human(board.free_bytes, 'B')} free in {board.folder}; copying and "
        f"building need {human(needed, 'B')}.",
        f"{human(missing_bytes, 'B')} to copy, about {human(engine_bytes, 'B')} for engines.",
        "make room there (df -h; du -xsh ~/.cache/*), or name another disk with --remote-dir.",
    )


def _check_probe(
    host: str, facts: dict[str, str], remote_dir: str, program: str, stderr: str
) -> None:
    if "lacks" in facts:
        raise BoardError(
            f"'{host}' has no '{facts['lacks']}', which copying and building need.",
            hint="on the board: sudo apt install coreutils util-linux",
        )
    if "free" not in facts:
        raise BoardError(
            f"the folder {remote_dir} cannot be made on '{host}'.",
            last_line(stderr),
            "name another with --remote-dir.",
        )
    if "program" not in facts:
        raise _no_merino_edge(host, program)


def _no_merino_edge(host: str, program: str) -> BoardError:
    pip = "python3 -m pip install --user"
    return BoardError(
        f"'{host}' has no {program or 'merino-edge'}.",
        "looked on the PATH that ssh gives, in ~/.local/bin, and for python3 -m merino_edge.",
        f"on the board: {pip} pip==21.3.1 && {pip} 'merino-edge[device]=={__version__}'; if it is "
        "in an environment of its own, say where: --board-program '~/venv/bin/merino-edge'",
    )


def _doctor(ssh: Ssh, words: Sequence[str]) -> dict[str, Any]:
    answer = ssh.run(_DOCTOR, *words)
    try:
        about = json.loads(answer.stdout)
    except ValueError:
        about = None
    if isinstance(about, dict):
        return about
    raise BoardError(
        f"merino-edge does not work on '{ssh.host}'.",
        last_line(answer.stderr) or last_line(answer.stdout),
        f"ssh {ssh.host} {shlex.join(words)} doctor",
    )


def _words(facts: dict[str, str], given: Sequence[str]) -> tuple[str, ...]:
    """What starts merino-edge there."""
    more = ["-m", facts["module"]] if "module" in facts else given[1:]
    return (facts["program"], *more)


def _free_bytes(df_line: str) -> int:
    """From ``df -Pk``: blocks, used, available, capacity in percent."""
    match = re.search(r"(\d+)\s+\d+%", df_line)
    return int(match.group(1)) * 1024 if match else 0


def _warnings(about: dict[str, Any]) -> tuple[str, ...]:
    found = about.get("merino_edge")
    checks = [check for check in about.get("checks", ()) if check.get("status") != "ok"]
    lines = [f"{check['name']}: {check['found']}: {check['why']}" for check in checks]
    if found is not None and found != __version__:
        lines.insert(0, f"merino-edge there is {found}, here it is {__version__}")
    return tuple(lines)


def _check_schema(host: str, board: Board, schema: str | None) -> None:
    if schema == SCHEMA:
        return
    pip = "python3 -m pip install --user --upgrade"
    raise UnsupportedError(
        f"merino-edge {board.merino_edge} on '{host}' reads bundles of schema "
        f"'{schema or 'unknown'}'; this one has '{SCHEMA}'.",
        f"here is merino-edge {__version__}.",
        f"on the board: {pip} merino-edge=={__version__}",
    )


def _check_engine(host: str, board: Board) -> None:
    if board.engines:
        return
    raise MissingDependencyError(
        "tensorrt",
        f"building the engine on '{host}'",
        "it comes with JetPack, for the system's Python only: sudo apt install python3-libnvinfer "
        "there, and install merino-edge for /usr/bin/python3, or in an environment made with "
        "--system-site-packages.",
    )
