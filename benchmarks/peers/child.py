"""The process of one contestant: reads a line of JSON, does it, writes a line of JSON, sleeps.

The one idea: contestants share a machine, not a process. While one runs, the others are blocked in
``readline`` and use no core; whether that is so is measured from outside. What libraries print
goes to stderr: the descriptor of stdout is moved away before anything is imported.

  python child.py llama '{"path": "model.gguf", "threads": 2, "context_len": 1024, "flash": true}'

Requests: ``open``, ``reset``, ``prefill`` (ids), ``decode`` (ids), ``follow`` (ids: the best next
token after each), ``close``. The first request need not be ``open``; an answer has ``error`` where
something failed, and the process ends.
"""

import gc
import importlib
import json
import os
import sys
import time
from typing import Any


def peak_bytes() -> int:
    """The most memory that this process had at once, mapped files included, from the kernel."""
    with open("/proc/self/status", encoding="ascii") as stream:
        line = next(line for line in stream if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


class Contestant:
    """One runtime, and what is asked of it."""

    def __init__(self, adapter: str, options: dict[str, Any]):
        self._adapter, self._options = adapter, options
        self._runtime: Any = None

    def do_open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Import and load; says how long each took, in seconds."""
        start = time.perf_counter()
        module = importlib.import_module("adapters." + self._adapter)
        imported = time.perf_counter()
        self._runtime = module.Runtime(**self._options)
        loaded = time.perf_counter()
        gc.collect()
        gc.freeze()
        return {
            "import_s": imported - start,
            "load_s": loaded - imported,
            "about": self._runtime.describe(),
        }

    def do_reset(self, request: dict[str, Any]) -> dict[str, Any]:
        """Begin a new text."""
        self._runtime.reset()
        return {}

    def do_prefill(self, request: dict[str, Any]) -> dict[str, Any]:
        """Append a prompt; its seconds."""
        start = time.perf_counter()
        best = self._runtime.prefill(request["ids"])
        return {"s": time.perf_counter() - start, "best": best}

    def do_decode(self, request: dict[str, Any]) -> dict[str, Any]:
        """Append tokens one by one; milliseconds of each."""
        gc.disable()
        found = self._runtime.timed_decode(request["ids"])
        gc.enable()
        return {"ms": [round(value, 4) for value in found]}

    def do_follow(self, request: dict[str, Any]) -> dict[str, Any]:
        """Append tokens one by one; the best next token after each."""
        return {
            "best": self._runtime.follow(request["ids"]),
            "follows_itself": self._runtime.follows_itself,
        }

    def do_close(self, request: dict[str, Any]) -> dict[str, Any]:
        """The last request; the peak of memory goes with every answer."""
        return {}


def main() -> None:
    """Answer requests until ``close`` or the end of stdin."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    contestant = Contestant(sys.argv[1], json.loads(sys.argv[2]))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(contestant, "do_" + request["do"])(request)
        except BaseException as error:  # whatever a library throws belongs into the report
            answer = {"error": f"{type(error).__name__}: {error}"}
        answer["peak_bytes"] = peak_bytes()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if "error" in answer or request["do"] == "close":
            os._exit(0)  # some libraries wait for their threads for ever


if __name__ == "__main__":
    main()
