"""The work on the board, which goes on whether anyone listens or not.

The one idea: a job is a folder on the board. The work runs in a session of its own, writes
its result, its log and at last its exit code there, and *holds a lock* on the folder as long as it
or a child of it lives. So "does it run?" is asked of the kernel, not of a process number that may
belong to somebody else by now, and a lock never outlives a power failure.

::

    JOB/  lock  request  run  pid  result  log  exit  collected

``request`` says what is being done (a checksum), ``run`` which call of ours started it, ``exit``
holds the code and the seconds it took. This module does not know what the result says.
"""

import hashlib
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from merino_edge.errors import BoardError
from merino_edge.pipeline.remote.patience import Patience
from merino_edge.pipeline.remote.ssh import Ssh

_TICK_S = 1.0
_MAX_RESULT_BYTES = 4 << 20
_MAX_LOG_BYTES = 1 << 20

# Leaves with an answer if the job $1 runs, or has what the caller may take: a result for request $2
# that nobody collected, or whatever the call $3 itself started. Else goes on, holding the lock.
_LOOK = """
mkdir -p "$1" && cd "$1" || exit 1
exec 9>lock || exit 1
same() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }
if ! flock -w 1 9; then
  if same request "$2"; then echo running; else echo busy; fi; exit 0
fi
if [ -s exit ] && same run "$3"; then echo done; exit 0; fi
if same request "$2" && [ ! -e collected ]; then
  case "$(cat exit 2>/dev/null)" in "0 "*) echo done; exit 0;; esac
fi
"""
_STATE = _LOOK + "echo idle\n"
# /proc/uptime does not jump when a board without a battery learns the date.
_START = (
    _LOOK
    + """
rm -f pid result log exit collected
printf '%s' "$2" >request && printf '%s' "$3" >run && : >log || exit 1
shift 3
PYTHONUNBUFFERED=1 setsid sh -c '
  echo $$ >pid
  read began _ </proc/uptime
  "$@" </dev/null >result 2>log
  code=$?
  read ended _ </proc/uptime
  echo "$code $((${ended%.*} - ${began%.*}))" >exit.part && mv -f exit.part exit
' merino-edge "$@" </dev/null >/dev/null 2>&1 &
echo started
"""
)
# Prints the log from byte $2 on until the lock is free. Whether it is free is asked before the log
# is read, so that no last words are lost. Looks often at first, since most failures come early, and
# seldom later ($3 seconds), since what runs is being timed.
_FOLLOW = """
cd "$1" || exit 1
n=$2; looks=0
while :; do
  if flock -n -s lock true; then over=1; else over=; fi
  size=$(wc -c <log)
  if [ "$size" -gt "$n" ]; then tail -c +$((n + 1)) log | head -c $((size - n)); n=$size; fi
  [ -z "$over" ] || exit 0
  looks=$((looks + 1))
  if [ "$looks" -lt 20 ]; then sleep 0.2; else sleep "$3"; fi
done
"""
_COLLECT = 'cd "$1" && cat exit && head -c "$2" result'
_LOG = 'cd "$1" && tail -c "$2" log'
_CANCEL = """
cd "$1" 2>/dev/null || { echo idle; exit 0; }
if flock -n -s lock true; then echo idle; exit 0; fi
pid=$(cat pid) || exit 1
echo "130 0" >exit
kill -TERM "-$pid"
for _ in 1 2 3 4 5 6 7 8 9 10; do
  flock -n -s lock true && break
  sleep 1
done
flock -n -s lock true || kill -KILL "-$pid"
flock -w 5 -s lock true || exit 1
echo cancelled
"""


class State(Enum):
    """What the board says about a job."""

    IDLE = "idle"  # nothing runs, nothing to collect
    STARTED = "started"
    RUNNING = "running"  # what we want is being done already
    DONE = "done"  # done, and not collected yet


class Outcome(NamedTuple):
    """How a job ended.

    Attributes:
        exit_code: Of the program on the board.
        elapsed_s: Seconds it took there.
        result: Its stdout.
        log: The end of its stderr.
    """

    exit_code: int
    elapsed_s: int
    result: str
    log: str


class Kind(NamedTuple):
    """Words for a kind of job, and how it is watched.

    Attributes:
        noun: What it is: "build".
        verb: What the board does then: "builds the engine".
        look_every_s: Seconds between two looks at its log, once it has run for some time. Each
            look starts a few short processes beside it.
    """

    noun: str
    verb: str
    look_every_s: int


class Job:
    """A program that runs on a board, one at a time in its folder.

    Args:
        ssh: The connection.
        kind: What it is, for people, and how often it is looked at.
        folder: Of the job, on the board.
        command: The program and its words.
        content: Names what it works on, such as the manifest's checksum.
        run: Names this call; a repeated start recognises its own job by it.
    """

    def __init__(
        self, ssh: Ssh, kind: Kind, folder: str, command: Sequence[str], content: str, run: str
    ):
        self.kind = kind
        self._ssh = ssh
        self._folder = folder
        self._command = tuple(command)
        self._request = hashlib.sha256("\0".join((*command, content)).encode()).hexdigest()
        self._run = run

    def state(self) -> State:
        """Look, without starting anything.

        Raises:
            BoardError: The connection failed, the folder cannot be used, or another job on the
                same files is going on.
        """
        return self._ask(_STATE)

    def start(self) -> State:
        """Start the job unless it runs already; safe to repeat when the answer was lost.

        Raises:
            BoardError: The connection failed, the folder cannot be used, or another job on the
                same files is going on.
        """
        return self._ask(_START, *self._command)

    def follow(
        self, patience: Patience, on_line: Callable[[str], None], on_tick: Callable[[], None]
    ) -> Outcome:
        """Hand on the lines of the log as they come, until the job has ended.

        Args:
            patience: Mends the connection.
            on_line: Gets each line of the log once.
            on_tick: Called at least about once a second.

        Raises:
            BoardError: The board did not come back, or the job vanished without an exit code.
        """
        log = _Lines(on_line)
        patience.keep_trying(lambda: self._read_log(log, patience, on_tick))
        log.end()
        return patience.keep_trying(lambda: self._collect(patience))

    def mark_collected(self) -> None:
        """Let the next call begin again instead of getting this result.

        Raises:
            BoardError: The connection failed.
        """
        self._ssh.run('cd "$1" && : >collected', self._folder)

    def cancel(self) -> bool:
        """End the job; whether there was one.

        Raises:
            BoardError: The connection failed, or the job does not end.
        """
        answer = self._ssh.run(_CANCEL, self._folder)
        if answer.code == 0:
            return answer.stdout.strip() == "cancelled"
        raise BoardError(
            f"the {self.kind.noun} on '{self._ssh.host}' could not be ended.",
            answer.stderr.strip() or None,
            f"ssh {self._ssh.host} ps -ef",
        )

    def _ask(self, script: str, *words: str) -> State:
        answer = self._ssh.run(script, self._folder, self._request, self._run, *words)
        if answer.code != 0:
            raise BoardError(
                f"the folder {self._folder} cannot be used on '{self._ssh.host}'.",
                answer.stderr.strip() or None,
                "is its disk full, or does the folder belong to another user there?",
            )
        word = answer.stdout.strip()
        if word != "busy":
            return State(word)
        raise BoardError(
            f"a {self.kind.noun} runs on '{self._ssh.host}' with other options or other files.",
            f"its folder is {self._folder}.",
            "wait until it has ended, or end it with --cancel.",
        )

    def _read_log(self, log: "_Lines", patience: Patience, on_tick: Callable[[], None]) -> None:
        words = (self._folder, str(log.n_bytes), str(self.kind.look_every_s))
        with self._ssh.session(_FOLLOW, *words) as session:
            for data in session.chunks(_TICK_S):
                if data:
                    patience.progressed()
                    log.add(data)
                on_tick()
            session.finish()

    def _collect(self, patience: Patience) -> Outcome:
        answer = self._ssh.run(_COLLECT, self._folder, str(_MAX_RESULT_BYTES))
        log = self._ssh.run(_LOG, self._folder, str(_MAX_LOG_BYTES)).stdout
        first, _, result = answer.stdout.partition("\n")
        words = first.split()
        if answer.code == 0 and len(words) == 2:
            return Outcome(int(words[0]), int(words[1]), result, log)
        raise BoardError(
            f"the {self.kind.noun} on '{self._ssh.host}' vanished without an exit code.",
            "the board restarted, or its disk is full."
            + (f" Its last words: {log.splitlines()[-1]}" if log else ""),
            f"ssh {self._ssh.host} 'uptime; df -h; dmesg | tail'; then: {patience.again}",
        )


class _Lines:
    """Whole lines out of the pieces of a log."""

    def __init__(self, on_line: Callable[[str], None]):
        self.n_bytes = 0
        self._rest = b""
        self._on_line = on_line

    def add(self, data: bytes) -> None:
        self.n_bytes += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line.decode("utf-8", "replace"))

    def end(self) -> None:
        if self._rest:
            self.add(b"\n")
