"""Telling systemd that a service is ready, still well, or about to stop.

The one idea: systemd gives a service the name of a datagram socket in NOTIFY_SOCKET and listens for
lines such as READY=1; where that variable is absent nobody listens, and every call here does
nothing. The watchdog is the same socket once more: a service whose unit has WatchdogSec= must send
WATCHDOG=1 more often than that, or it is taken for hung and is started anew. So the thread below
asks ``alive`` before each sign of life, and says nothing where the answer is no: a thread that only
proves itself alive would hide a server that hangs.

The protocol is that of sd_notify(3). This module knows nothing of servers.
"""

import contextlib
import os
import socket
import threading
from typing import Callable, Iterator, Mapping, Optional

SOCKET, INTERVAL, PROCESS = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


def notify(message: str, environment: Optional[Mapping[str, str]] = None) -> bool:
    """Send one message to systemd; never raises, for a service must not end over it.

    Args:
        message: Lines of NAME=VALUE, such as "READY=1" or "STATUS=model loaded".
        environment: Variables instead of this process's.

    Returns:
        Whether it was sent; False where nobody listens.
    """
    address = _variables(environment).get(SOCKET, "")
    if address[:1] not in ("/", "@"):
        return False
    if address[0] == "@":  # Linux's abstract names begin with a zero byte
        address = "\0" + address[1:]
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as door:
            door.settimeout(1.0)  # a full queue must not hold the service up
            door.connect(address)
            door.sendall(message.encode("utf-8"))
    except OSError:
        return False
    return True


def watchdog_interval_s(environment: Optional[Mapping[str, str]] = None) -> Optional[float]:
    """Seconds within which systemd wants a sign of life; None where it wants none of this process.

    The variables are inherited, so one that names another process is not meant for this one.
    """
    variables = _variables(environment)
    try:
        interval_us = int(variables.get(INTERVAL, "0"))
        process = int(variables.get(PROCESS, str(os.getpid())))
    except ValueError:
        return None
    return interval_us / 1e6 if interval_us > 0 and process == os.getpid() else None


@contextlib.contextmanager
def service(
    alive: Callable[[], bool] = lambda: True, environment: Optional[Mapping[str, str]] = None
) -> Iterator[None]:
    """Around a service's life: ready on entry, signs of life while inside, stopping on exit.

    Args:
        alive: Whether the service does its work; asked three times per interval, in a thread of
            its own. An exception counts as no.
        environment: Variables instead of this process's.
    """
    over = threading.Event()
    thread = _watchdog(alive, over, environment)
    notify("READY=1", environment)
    try:
        yield
    finally:
        notify("STOPPING=1", environment)
        over.set()
        if thread is not None:
            thread.join()


def _watchdog(
    alive: Callable[[], bool], over: threading.Event, environment: Optional[Mapping[str, str]]
) -> Optional[threading.Thread]:
    interval_s = watchdog_interval_s(environment)
    if interval_s is None:
        return None
    # sd_watchdog_enabled(3) advises half of it; a third leaves room for one that comes late.
    pause_s = interval_s / 3

    def tell() -> None:
        while not over.wait(pause_s):
            if _says_yes(alive):
                notify("WATCHDOG=1", environment)

    thread = threading.Thread(target=tell, name="watchdog")
    thread.daemon = True
    thread.start()
    return thread


def _says_yes(alive: Callable[[], bool]) -> bool:
    try:
        return bool(alive())
    except Exception:  # whatever it was, it does not speak for a healthy service
        return False


def _variables(environment: Optional[Mapping[str, str]]) -> Mapping[str, str]:
    return os.environ if environment is None else environment
