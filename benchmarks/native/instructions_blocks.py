"""Which AArch64 instructions a decode step executes, and how often, under QEMU.

The one idea: a plugin of QEMU counts how often each stretch of code runs between two marks
(``instructions_plugin.c``), the disassembly says what stands there. So every instruction gets its
exact number of executions, without a board. The program is single-threaded: nothing here is
about time. Needs Debian's qemu-user and gcc-aarch64-linux-gnu.
"""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from merino_edge.errors import MissingDependencyError

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parents[1] / "merino_edge" / "native"
CROSS = "aarch64-linux-gnu-"
FLAGS = ["-std=c99", "-O3", "-pthread", "-static", f"-I{NATIVE / 'include'}"]
PROCESSOR = "cortex-a57"
BRANCH = re.compile(r"(b|b\.\w+|bl|br|blr|ret|cbz|cbnz|tbz|tbnz)$")
_FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
_LINE = re.compile(r"^ +([0-9a-f]+):\t(.*)$")
INSTRUCTION_BYTES = 4


class Instruction(NamedTuple):
    """One line of the disassembly.

    Attributes:
        address: Of its first byte.
        function: That it stands in; what the compiler put inline belongs to its caller.
        text: Mnemonic and operands.
    """

    address: int
    function: str
    text: str

    @property
    def mnemonic(self) -> str:
        """Such as ``smlal2``."""
        return self.text.split(None, 1)[0]


class Block(NamedTuple):
    """Instructions that follow each other and all ran equally often.

    Attributes:
        instructions: In order.
        runs: How often.
    """

    instructions: list[Instruction]
    runs: int

    @property
    def executed(self) -> int:
        """Instructions times runs."""
        return len(self.instructions) * self.runs


def build(folder: Path) -> tuple[Path, Path]:
    """The program for ARM and the plugin for QEMU.

    Raises:
        MissingDependencyError: A compiler or QEMU is not here.
    """
    for tool, package in (
        (CROSS + "gcc", "gcc-aarch64-linux-gnu"),
        ("cc", "gcc"),
        ("qemu-aarch64", "qemu-user"),
    ):
        if shutil.which(tool) is None:
            raise MissingDependencyError(package, "counting", f"apt-get install {package}")
    program, plugin = folder / "step", folder / "libinstructions.so"
    sources = sorted((NATIVE / "src").glob("*.c"))
    _run(CROSS + "gcc", *FLAGS, *sources, HERE / "instructions_step.c", "-lm", "-o", program)
    _run("cc", "-O2", "-fPIC", "-shared", HERE / "instructions_plugin.c", "-o", plugin)
    return program, plugin


def versions() -> dict[str, str]:
    """Of the compiler, whose choices are counted, and of QEMU."""
    tools = {"gcc": CROSS + "gcc", "qemu": "qemu-aarch64"}
    return {name: _run(tool, "--version").splitlines()[0] for name, tool in tools.items()}


def count(program: Path, plugin: Path, model: str, past: int) -> tuple[str, list[Block]]:
    """The kernels in use and what one step behind ``past`` tokens executed."""
    counts_file = program.with_name("blocks.txt")
    mark = _run(CROSS + "nm", program)
    address = re.search(r"^([0-9a-f]+) T instructions_mark$", mark, re.MULTILINE)
    assert address, "the program has its mark"
    options = f"{plugin},mark=0x{address[1]},out={counts_file}"
    kernels = _run("qemu-aarch64", "-cpu", PROCESSOR, "-plugin", options, program, model, past)
    return kernels.strip(), _blocks(_disassembly(program), _executions(counts_file))


def _run(*command: object) -> str:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{command[0]} failed: {done.stderr.strip()}")
    return done.stdout


def _disassembly(program: Path) -> list[Instruction]:
    listed, function = [], ""
    text = _run(CROSS + "objdump", "-d", "--no-show-raw-insn", program)
    for line in text.splitlines():
        if found := _FUNCTION.match(line):
            function = found[1]
        elif found := _LINE.match(line):
            listed.append(Instruction(int(found[1], 16), function, found[2].strip()))
    return listed


def _executions(counts_file: Path) -> Counter[int]:
    """Address -> how often the instruction there ran."""
    found: Counter[int] = Counter()
    for line in counts_file.read_text().splitlines():
        address, n_instructions, runs = line.split()
        for i in range(int(n_instructions)):
            found[int(address, 16) + i * INSTRUCTION_BYTES] += int(runs)
    return found


def _blocks(listed: list[Instruction], executions: Counter[int]) -> list[Block]:
    """They end with a branch or where counts change; QEMU cuts where pages end, too."""
    blocks: list[Block] = []
    last: Instruction | None = None  # of the block that may go on
    for each in listed:
        runs = executions[each.address]
        if last and each.address == last.address + INSTRUCTION_BYTES and runs == blocks[-1].runs:
            blocks[-1].instructions.append(each)
        elif runs:
            blocks.append(Block([each], runs))
        last = each if runs and not BRANCH.match(each.mnemonic) else None
    return blocks
