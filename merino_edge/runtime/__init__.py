"""Run a bundle: the public face of the device side. Python 3.6 and numpy, nothing else to import.

::

    from merino_edge.runtime import GenerationConfig, load

    with load("bundle/") as session:
        for piece in session.stream("The sheep", GenerationConfig(max_new_tokens=32)):
            print(piece, end="", flush=True)
"""

from merino_edge.runtime.generation import Generation
from merino_edge.runtime.open import load
from merino_edge.runtime.sampling import GenerationConfig
from merino_edge.runtime.session import GenerationSession

__all__ = ["Generation", "GenerationConfig", "GenerationSession", "load"]
