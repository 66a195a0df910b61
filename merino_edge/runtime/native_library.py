"""The native decoder's C functions, over ctypes: one library for every Python from 3.6 on.

The one idea: the C API is written down once more here, with the type of every argument, and what
it answers becomes an error of ours or nothing. The library lies beside the package, where the
install built it, or where MERINO_EDGE_NATIVE says. It uses nothing of CPython, so no version of
Python needs its own. The header that says what the functions promise is
``native/include/merino_edge.h``; this module knows no numpy and no bundle.
"""

import ctypes
import os
from ctypes import POINTER, c_char_p, c_int, c_int32, c_size_t, c_uint32, c_void_p
from typing import Any, List, Optional

from merino_edge.errors import (
    DeviceMemoryError,
    EngineError,
    FormatError,
    MerinoError,
    MissingDependencyError,
    SessionError,
    UsageError,
)

ABI_VERSION = 3
VARIABLE = "MERINO_EDGE_NATIVE"
LIBRARY = "libmerino_edge.so"
KERNELS = ("avx512vnni", "avx2", "neondot", "neon", "plain")  # the fastest first
OK, FILE, FORMAT, MEMORY, ARGUMENT, FULL, CANCELLED, SYSTEM = range(8)
MESSAGE_BYTES = 512


class Info(ctypes.Structure):
    """``me_info``."""

    _fields_ = [
        ("vocab_size", c_uint32),
        ("max_seq_len", c_uint32),
        ("n_layers", c_uint32),
        ("n_blocks", c_uint32),
        ("file_bytes", ctypes.c_uint64),
        ("kernels", c_char_p),
    ]


_PROTOTYPES = {
    "me_abi_version": (c_uint32, []),
    "me_status_text": (c_char_p, [c_int]),
    "me_open": (c_int, [c_char_p, POINTER(c_void_p), c_char_p, c_size_t]),
    "me_close": (None, [c_void_p]),
    "me_get_info": (c_int, [c_void_p, POINTER(Info)]),
    "me_usable_threads": (c_uint32, []),
    "me_session_bytes": (c_size_t, [c_void_p, c_uint32, c_uint32]),
    "me_session_open": (
        c_int,
        [c_void_p, c_uint32, c_uint32, POINTER(c_void_p), c_char_p, c_size_t],
    ),
    "me_session_close": (None, [c_void_p]),
    # ids and logits as addresses: numpy has them, and a step should make no objects
    "me_prefill": (c_int, [c_void_p, c_void_p, c_uint32, c_uint32, c_void_p]),
    "me_step": (c_int, [c_void_p, c_int32, c_void_p]),
    "me_best": (c_int, [c_void_p, c_uint32, c_void_p, c_void_p]),
    "me_position": (c_uint32, [c_void_p]),
    "me_rewind": (c_int, [c_void_p, c_uint32]),
    "me_reset": (None, [c_void_p]),
    "me_cancel": (None, [c_void_p]),
    "me_use_kernels": (c_int, [c_char_p]),
}


def library_path() -> str:
    """Where the library is, or should be."""
    beside = os.path.join(os.path.dirname(__file__), "..", "native", "lib", LIBRARY)
    return os.environ.get(VARIABLE) or os.path.abspath(beside)


class NativeLibrary:
    """The library, loaded and typed; its functions are in ``call``, under their C names.

    Args:
        path: The file; None for ``library_path()``.

    Raises:
        MissingDependencyError: It is not there, not for this machine, or of another version.
    """

    def __init__(self, path: Optional[str] = None):
        self.path = path or library_path()
        self.call = _load(self.path)  # type: Any
        found = self.call.me_abi_version()
        if found != ABI_VERSION:
            raise _missing("ABI {} is there, ABI {} is needed".format(found, ABI_VERSION))
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(self.call, name)
            function.restype, function.argtypes = result, arguments

    def open_model(self, path: str) -> c_void_p:
        """Map a model file; to be closed with ``call.me_close``, after its sessions.

        Raises:
            FormatError: It is missing, damaged, or of another version.
            DeviceMemoryError: There is no room for its tables.
        """
        model, message = c_void_p(), ctypes.create_string_buffer(MESSAGE_BYTES)
        status = self.call.me_open(os.fsencode(path), ctypes.byref(model), message, len(message))
        self.check(status, message.value, path)
        return model

    def open_session(self, model: c_void_p, context_len: int, threads: int) -> c_void_p:
        """Take all memory of one text; to be closed with ``call.me_session_close``.

        Raises:
            DeviceMemoryError: With what is needed.
            UsageError: A context or a number of threads that cannot be.
        """
        session, message = c_void_p(), ctypes.create_string_buffer(MESSAGE_BYTES)
        status = self.call.me_session_open(
            model, context_len, threads, ctypes.byref(session), message, len(message)
        )
        if status == ARGUMENT:
            raise UsageError("the native decoder gives " + _sentence(message.value) + ".")
        if status == MEMORY:
            raise _no_memory(self.call.me_session_bytes(model, context_len, threads))
        self.check(status, message.value)
        return session

    def use_kernels(self, name: Optional[str]) -> None:
        """Choose an instruction set for the sessions to come; None for the best one here.

        Raises:
            UsageError: This machine, or this build, lacks it.
        """
        status = self.call.me_use_kernels(None if name is None else name.encode("ascii"))
        if status != OK:
            raise UsageError("there are no kernels '{}' on this machine.".format(name))

    def kernels(self) -> List[str]:
        """Instruction sets that this machine and this build have, the one in use first."""
        found = [name for name in KERNELS if self.call.me_use_kernels(name.encode("ascii")) == OK]
        self.use_kernels(None)
        return found

    def info(self, model: c_void_p) -> Info:
        """What a model is, and with which kernels it will run."""
        info = Info()
        self.check(self.call.me_get_info(model, ctypes.byref(info)))
        return info

    def check(self, status: int, message: bytes = b"", path: str = "") -> None:
        """Nothing if all went well; otherwise the error that fits."""
        if status == OK:
            return
        text = _sentence(message) or self.call.me_status_text(status).decode("utf-8")
        raise _error(status, text, path)


def _load(path: str) -> Any:
    if not os.path.isfile(path):
        raise _missing()
    try:
        library = ctypes.CDLL(path)
        library.me_abi_version.restype = c_uint32
    except (OSError, AttributeError) as error:
        raise _missing(str(error))
    return library


def _missing(why: str = "") -> MissingDependencyError:
    return MissingDependencyError(
        LIBRARY + (" ({})".format(why) if why else ""),
        "the backend 'native'",
        "pip install merino-edge where there is a C compiler, or point {} to {}.".format(
            VARIABLE, LIBRARY
        ),
    )


def _error(status: int, text: str, path: str) -> MerinoError:
    if status in (FILE, FORMAT):
        return FormatError(text + ".", path if path not in text else "")
    if status == MEMORY:
        return _no_memory(0)
    if status in (ARGUMENT, FULL, CANCELLED):
        return SessionError("the native decoder: {}.".format(text))
    return EngineError("the native decoder: {}.".format(text))


def _no_memory(needed_bytes: int) -> DeviceMemoryError:
    from merino_edge.runtime.device_info import meminfo_bytes  # only here: a run starts faster

    return DeviceMemoryError(
        "there is no memory for the native decoder.",
        needed_bytes,
        meminfo_bytes("/").get("MemAvailable", 0),
        hint="close other programs, or build with a shorter --context.",
    )


def _sentence(message: bytes) -> str:
    return message.decode("utf-8", "replace").rstrip(". ")
