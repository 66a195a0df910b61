"""The door to jetson-stats (``jtop``), the only importer of it: a board's power, told by a service.

The one idea: it is asked only where the kernel's own files do not tell, for it is a separate
program under another licence (AGPL), needs its service running in the same version, and has been
seen to stop under full load. Whatever is wrong with it, the answer is "not measured", not an error.

Its total counts only where it names the rail: elsewhere it is a sum of rails, which is not known to
be all of the board.
"""

import contextlib
import importlib.util
from typing import Any, Optional

from merino_edge.runtime.rails import INPUTS, PowerSource

INTERVAL_S = 0.1  # asked for; the service's first client decides


def open_jtop() -> Optional[PowerSource]:
    """The board's power through a running jtop service; None where there is none.

    The readings are as old as the service's interval, up to a second.
    """
    if importlib.util.find_spec("jtop") is None:
        return None
    try:
        import jtop

        client = jtop.jtop(interval=INTERVAL_S)
        client.start()
    except Exception:  # its own JtopException, or what the socket, the queue or the import raise
        return None
    if _total_w(client) is None:
        _close(client)
        return None

    return PowerSource(
        "{} (jtop)".format(client.power["tot"]["name"]),
        lambda: _total_w(client),
        lambda: _close(client),
    )


def _total_w(client: Any) -> Optional[float]:
    try:
        if not client.ok(spin=True):
            return None
        total = client.power["tot"]
        milliwatts = float(total["power"])
        named = total.get("name") in INPUTS
    except Exception:  # ok() raises what its thread met; older versions have no such attribute
        return None
    return milliwatts / 1e3 if named and milliwatts > 0.0 else None


def _close(client: Any) -> None:
    with contextlib.suppress(Exception):  # a service that is gone is closed
        client.close()
