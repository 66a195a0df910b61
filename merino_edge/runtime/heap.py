"""The C library's heap, kept to one place in a process that lives for long.

The one idea: glibc gives every thread that finds the heap busy a heap of its own, up to eight a
core, and none of them gives its pages back to another. A server that starts a thread for each
request then creeps up for hours, by megabytes, without losing anything. With one heap it does not,
and threads that mostly wait for the model do not miss the others.
"""

import ctypes

M_ARENA_MAX = -8  # malloc.h of glibc


def keep_one_heap() -> bool:
    """For threads that start from now on; False where the C library has no such switch."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has one heap anyway
        return False
    return bool(mallopt(M_ARENA_MAX, 1))
