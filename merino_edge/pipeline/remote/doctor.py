"""``doctor --host``: a board examines itself, and says here what it found.

The one idea: only the board can look at its own files, so its own merino-edge is asked, in the same
words as by hand; this side finds it, brings its answer, and changes nothing there. An answer of
an older version has fewer checks and is as good. This module does not know what is checked.
"""

from typing import Any

from merino_edge.pipeline.remote.board import ask_doctor
from merino_edge.pipeline.remote.ssh import Ssh
from merino_edge.pipeline.remote.walk import RemoteOptions


def doctor_on_board(host: str, options: RemoteOptions) -> dict[str, Any]:
    """The document that ``merino-edge doctor --json`` prints on a board.

    Args:
        host: As for ssh.
        options: How to reach it; ``ssh_options`` and ``program`` are used.

    Raises:
        UsageError: The host is not the name of one.
        BoardError: It cannot be reached, or has no merino-edge that works; with the command that
            installs one.
    """
    with Ssh(host, options.ssh_options) as ssh:
        ssh.connect()
        return ask_doctor(ssh, options.program)
