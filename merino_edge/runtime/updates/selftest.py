"""Does a bundle give its golden tokens on this machine? Asked in a child process.

The one idea: a bundle that is being tried may do anything to the process that runs it: crash in
native code, take all memory, hang. So a child runs it, under a time limit, and whatever happens to
the child is an answer: "it failed". What the child takes is free again when it has ended.

The child says how it went as one JSON line, its last; its notes go to stderr.
"""

import json
import os
import subprocess
import sys
from typing import Any, Dict, List, NamedTuple, Optional

import merino_edge
from merino_edge.errors import (
    FormatError,
    MerinoError,
    ParityError,
    SessionError,
    SpecError,
    UnsupportedError,
)

TIMEOUT_S = 1800.0  # a TensorRT engine may be built on the way, which takes minutes on a Nano
_CODE_OF_FAILURE = ParityError.exit_code


class Tested(NamedTuple):
    """A self-test that was passed.

    Attributes:
        n_tokens: Golden tokens that agreed.
        backend: What ran it.
    """

    n_tokens: int
    backend: str


def run_self_test(
    path: str,
    backend: str = "auto",
    threads: Optional[int] = None,
    timeout_s: float = TIMEOUT_S,
    quiet: bool = False,
) -> Tested:
    """Decode the golden prompts of a bundle in a child process.

    Args:
        path: The bundle.
        backend: As for ``load``.
        threads: CPU threads; None for all cores.
        timeout_s: A child that takes longer is ended, and has failed.
        quiet: Do not show the child's notes.

    Raises:
        ParityError: Wrong tokens, a crash, or too long.
        FormatError: The bundle is damaged.
        UnsupportedError: It does not run on this machine, or has no golden prompts.
        MerinoError: It could not be tested: with the child's own words and exit code.
    """
    child = subprocess.Popen(
        _command(path, backend, threads),
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(merino_edge.__file__))),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
    )
    try:
        output = child.communicate(timeout=timeout_s)[0]
    except subprocess.TimeoutExpired:
        raise ParityError("the self-test took longer than {:.0f} s.".format(timeout_s))
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
    return _answer(output, child.returncode, path)


def main(arguments: List[str]) -> int:
    """The child: test, and say how it went."""
    try:
        answer: Dict[str, Any] = _test(*arguments)._asdict()
        answer = dict(answer)
    except MerinoError as error:
        if isinstance(error, (SessionError, SpecError)):  # golden prompts that no model can take
            error.exit_code = _CODE_OF_FAILURE
        answer = {
            "error": error.message,
            "note": error.note,
            "hint": error.hint,
            "exit_code": error.exit_code,
        }
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    sys.stdout.flush()
    return 0


def _test(path: str, backend: str, threads: str) -> Tested:
    from merino_edge.formats.bundle import Bundle
    from merino_edge.runtime.open import load
    from merino_edge.runtime.verify import check_golden_tokens

    if not Bundle.open(path).manifest.golden:
        raise UnsupportedError(
            "the bundle has no golden prompts, so nothing can tell whether it works.",
            hint="build it again: merino-edge build makes them.",
        )
    with load(path, backend, int(threads) or None, _note) as session:
        agreed = check_golden_tokens(session.backend, session.manifest.golden)
        if not agreed:
            raise UnsupportedError("no golden token is clear, so they tell nothing.")
        return Tested(agreed, session.backend.description)


def _command(path: str, backend: str, threads: Optional[int]) -> List[str]:
    # -m looks into the working directory first, so the child's is where this package lies: the
    # folder in which somebody happens to update a device must not decide what code runs.
    words = [os.path.abspath(path), backend, str(threads or 0)]
    return [sys.executable, "-m", __name__] + words


def _answer(output: bytes, code: int, path: str) -> Tested:
    try:
        answer = json.loads(output.decode("utf-8").strip().rpartition("\n")[2])
        if "error" not in answer:
            return Tested(**answer)
    except (ValueError, TypeError):
        raise ParityError(
            "the self-test did not end well: {}.".format(_ending(code)),
            note="what it said before it did stands above, if anything.",
        )
    raise _error_of(answer, path)


def _error_of(answer: Dict[str, Any], path: str) -> MerinoError:
    message, note, hint = answer["error"], answer["note"], answer["hint"]
    code = answer["exit_code"]
    if code == FormatError.exit_code:
        return FormatError(message, note=note, hint=hint)
    if code == UnsupportedError.exit_code:
        return UnsupportedError(message, note, hint)
    if code == _CODE_OF_FAILURE:
        return ParityError("self-test failed: " + message, note=note, hint=hint)
    error = MerinoError("the self-test could not run: " + message, note, hint)
    error.exit_code = code
    return error


def _ending(code: int) -> str:
    return "signal {}".format(-code) if code < 0 else "exit code {}".format(code)


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
