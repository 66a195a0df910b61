"""Faults that a test can plant: the n-th call of something fails as TensorRT's would.

The one idea: a call that may fail asks ``due`` first. A test plants a fault in this process by
``trt._faults.fail("enqueue", on=3)``; for a child process it stands in the environment:
``TENSORRT_DOUBLE_FAULTS='{"build": {"message": "..."}}'``.
"""

import json
import os
import signal
import time

OUT_OF_MEMORY = "Error Code 2: OutOfMemory (no further information)"
CALLS = ("parse", "build", "deserialize", "create_context", "set_shape", "set_profile", "enqueue")


class Faults:
    """What shall fail, and what else shall go wrong.

    Attributes:
        build_seconds: How long a build takes.
        build_is_killed: The build ends in SIGKILL, as the kernel's out-of-memory killer does.
        spoils_outputs: Executions give wrong numbers of the right shape.
    """

    def __init__(self):
        self._planted = {}
        self.build_seconds = 0.0
        self.build_is_killed = False
        self.spoils_outputs = False
        self._read(json.loads(os.environ.get("TENSORRT_DOUBLE_FAULTS", "{}")))

    def _read(self, planted):
        for name, value in planted.items():
            if name in CALLS:
                self.fail(name, **value)
            elif name in ("build_seconds", "build_is_killed", "spoils_outputs"):
                setattr(self, name, value)
            else:
                raise ValueError(f"unknown fault '{name}'")

    def fail(self, call, on=1, times=1, message=OUT_OF_MEMORY):
        """Let the ``on``-th call from now fail, and ``times`` calls in all, with this message."""
        if call not in CALLS:
            raise ValueError(f"unknown call '{call}'; there are {', '.join(CALLS)}")
        self._planted[call] = [on, times, message]

    def due(self, call):
        """The message, if this call shall fail; else None. Counts the call."""
        planted = self._planted.get(call)
        if planted is None:
            return None
        planted[0] -= 1
        if planted[0] > 0:
            return None
        planted[1] -= 1
        if planted[1] <= 0:
            del self._planted[call]
        return planted[2]

    def suffer_build(self):
        """Take the time a build takes, or die of it."""
        time.sleep(self.build_seconds)
        if self.build_is_killed:
            os.kill(os.getpid(), signal.SIGKILL)
