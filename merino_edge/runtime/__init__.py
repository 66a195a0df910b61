"""Run a bundle: the public face of the device side. Python 3.6 and numpy, nothing else to import.

::

    from merino_edge.runtime import GenerationConfig, load

    with load("bundle/") as session:
        for piece in session.stream("The sheep", GenerationConfig(max_new_tokens=32)):
            print(piece, end="", flush=True)
"""

import os
import platform
import sys

if sys.version_info < (3, 7) and platform.machine() == "aarch64":
    # OpenBLAS in numpy 1.19.5, the last for Python 3.6, asks the CPU what it is in a way that a
    # Jetson's kernel forbids: "Illegal instruction" (numpy #18131). Told so, it does not ask.
    os.environ.setdefault("OPENBLAS_CORETYPE", "ARMV8")

from merino_edge.runtime.generation import Generation
from merino_edge.runtime.open import load
from merino_edge.runtime.sampling import GenerationConfig
from merino_edge.runtime.session import GenerationSession

__all__ = ["Generation", "GenerationConfig", "GenerationSession", "load"]
