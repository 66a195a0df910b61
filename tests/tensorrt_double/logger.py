"""ILogger, which users subclass, and Logger, which prints.

A subclass with an ``__init__`` must call ILogger's, or pybind11 refuses the object where it is
used.
"""

import sys

from .surface import want


class ILogger:
    """To be subclassed, with ``log(self, severity, msg)``."""

    def __init__(self):
        self._ready = True

    def log(self, severity, msg):
        raise RuntimeError('Tried to call pure virtual function "ILogger::log"')


class Logger:
    """Prints what is at least as severe as ``min_severity``."""

    def __init__(self, min_severity=None):
        self._ready = True
        default = self._trt.enum("Severity", "WARNING")
        self._min_severity = default if min_severity is None else min_severity
        want(self._min_severity, self._trt.enums["Severity"], "Logger()")

    @property
    def min_severity(self):
        return self._min_severity

    @min_severity.setter
    def min_severity(self, value):
        self._min_severity = want(value, self._trt.enums["Severity"], "min_severity")

    def log(self, severity, msg):
        if severity <= self._min_severity:
            sys.stdout.write(f"[TRT] [{severity.name[0]}] {msg}\n")


def ready(library, logger):
    """The logger, if it is one and its base was initialised.

    Raises:
        TypeError: As pybind11 does.
    """
    want(logger, library.classes["ILogger"], "logger")
    if not getattr(logger, "_ready", False):
        name = type(logger).__name__
        raise TypeError(f"tensorrt.tensorrt.ILogger.__init__() must be called when {name} has one")
    return logger
