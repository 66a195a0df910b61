"""How long a Jetson Nano's processor would take for counted instructions and bytes: a prediction.

The one idea: two times are computed that nothing can undercut, and the larger one is the
prediction's lower end. *Instructions*: LLVM's pipeline model of the Cortex-A57 plays each stretch
of code of a step over and over: three micro-operations are dispatched a cycle, one load, two vector
operations and of these one integer product are started. It takes all data to be in the first cache
and all branches to be foreseen. *Memory*: every stored byte that a token needs comes from DRAM, as
a block of weights is larger than the 2 MB of cache. The upper end is both times one after the
other, at the lower bandwidth. Nothing here was measured on a board.
"""

import json
import re
import shutil
import subprocess
from typing import NamedTuple

from instructions_blocks import PROCESSOR, Block

from merino_edge.errors import MissingDependencyError

SIMULATED_SHARE = 0.999  # of the instructions; the rest, rare code, is taken to be as fast
ITERATIONS = 50
_TARGET = re.compile(r"\b[0-9a-f]+ <[^>]*>")  # of a branch: the model asks for none


class Nano(NamedTuple):
    """The board, as far as the prediction needs it.

    Attributes:
        clock_hz: Of the four A57 cores in the 10 W mode.
        n_cores: That share the work.
        slow_bytes_per_s: What one core was seen to move (memcpy of whisper.cpp's benchmark, 2.97 GB
            copied a second, each byte read and written); four move no less.
        fast_bytes_per_s: What the GPU was seen to copy within the same DRAM, reads and writes
            together; the processor reads no more.
        meeting_s: Of four threads, two cache lines going round: assumed, not seen.
    """

    clock_hz: float = 1.43e9
    n_cores: int = 4
    slow_bytes_per_s: float = 5.9e9
    fast_bytes_per_s: float = 16.5e9
    meeting_s: float = 0.5e-6


class Part(NamedTuple):
    """What belongs together in a step.

    Attributes:
        name: Of the part.
        instructions: Executed in one step.
        vector_products: Of these, integer vector products; a core starts one a cycle.
        cycles: Of one core.
        threads: How many cores can share it.
    """

    name: str
    instructions: int
    vector_products: int
    cycles: float
    threads: int


def cycles_of(blocks: list[Block]) -> list[float]:
    """Cycles that one core spends in each block, over all its runs.

    Raises:
        MissingDependencyError: llvm-mca is not here.
    """
    total = sum(block.executed for block in blocks)
    by_size = sorted(range(len(blocks)), key=lambda i: -blocks[i].executed)
    chosen, covered = [], 0
    for i in by_size:
        if covered >= SIMULATED_SHARE * total:
            break
        chosen.append(i)
        covered += blocks[i].executed
    simulated = dict(zip(chosen, _simulated([blocks[i] for i in chosen]), strict=True))
    spent = sum(simulated[i] * blocks[i].runs for i in chosen)
    rest = spent / covered  # cycles an instruction
    return [
        simulated[i] * block.runs if i in simulated else rest * block.executed
        for i, block in enumerate(blocks)
    ]


def _simulated(blocks: list[Block]) -> list[float]:
    """Cycles of one run of each block, when it runs again and again."""
    regions = "\n".join(
        f"# LLVM-MCA-BEGIN {i}\n{_assembly(block)}\n# LLVM-MCA-END"
        for i, block in enumerate(blocks)
    )
    command = [
        tool(),
        "-mtriple=aarch64",
        f"-mcpu={PROCESSOR}",
        f"-iterations={ITERATIONS}",
        "-json",
    ]
    done = subprocess.run(command, input=regions, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"llvm-mca failed: {done.stderr.strip()[-500:]}")
    found = json.loads(done.stdout[done.stdout.index("{") :])["CodeRegions"]
    return [region["SummaryView"]["TotalCycles"] / ITERATIONS for region in found]


def _assembly(block: Block) -> str:
    lines = (each.text.split("//")[0] for each in block.instructions)
    return "\n".join(_TARGET.sub("#0", line) for line in lines)


def tool() -> str:
    """The name of llvm-mca, with or without its version.

    Raises:
        MissingDependencyError: It is not here.
    """
    for name in ("llvm-mca", *(f"llvm-mca-{version}" for version in range(20, 13, -1))):
        if shutil.which(name):
            return name
    raise MissingDependencyError("llvm", "the model of the pipeline", "apt-get install llvm")


def instruction_s(nano: Nano, parts: list[Part], n_meetings: int) -> float:
    """Of one step on all cores: what cannot be shared is done by one."""
    shared = sum(part.cycles / min(part.threads, nano.n_cores) for part in parts)
    return shared / nano.clock_hz + n_meetings * nano.meeting_s


def predicted_s(nano: Nano, instructions: float, n_bytes: int) -> tuple[float, float]:
    """Ends for one step: all overlaps at the high bandwidth, or nothing at the low one."""
    least = max(instructions, n_bytes / nano.fast_bytes_per_s)
    return least, instructions + n_bytes / nano.slow_bytes_per_s
