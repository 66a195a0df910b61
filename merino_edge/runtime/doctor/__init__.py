"""Is this machine fit, and if not, which command mends it?

The one idea: facts are gathered first (``facts``, from files below ``root``, so that a test can
hand over a recorded board), then each check is a small function from facts to a verdict. "warn"
means that things work, but slower or without some command; "fail" means that nothing will run.
The checks lie by what they look at: ``software``, ``board``, ``room`` and ``power``; here is
only their order. Nothing is changed anywhere, and nothing needs rights.
"""

from typing import Callable, List, Optional, Tuple

from merino_edge.runtime.doctor import board, power, room, software
from merino_edge.runtime.doctor.facts import Facts, Gpu, Native, User, observe
from merino_edge.runtime.doctor.verdict import Check

__all__ = ["CHECKS", "Check", "Facts", "Gpu", "Native", "User", "examine", "observe"]

# In the order in which a person would look.
CHECKS: Tuple[Callable[[Facts], Optional[Check]], ...] = (
    software.python,
    board.board,
    board.jetpack,
    software.numpy,
    software.openblas,
    software.tokenizers,
    software.onnxruntime,
    software.native,
    software.host_packages,
    software.cpu,
    room.memory,
    room.desktop,
    room.swap,
    room.disk,
    room.load,
    board.cuda,
    board.tensorrt,
    board.tensorrt_python,
    board.gpu,
    board.groups,
    power.power_mode,
    power.clocks,
    power.temperature,
    power.supply,
    power.rails,
)


def examine(facts: Facts) -> List[Check]:
    """Every check that applies to this machine."""
    verdicts = [check(facts) for check in CHECKS]
    return [verdict for verdict in verdicts if verdict is not None]
