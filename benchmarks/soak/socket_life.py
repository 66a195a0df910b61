"""A long life of a server on a socket: clients that behave, and clients that do not.

The one idea: a seed decides what each client does next, so a life can be lived again. Answers are
read to their end, cancelled, left by hanging up, reset; lines are nonsense, too long, or ask for
what cannot be. The server is a process of its own, and is looked at from outside.
"""

import json
import os
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable

from slope import Sample

PROMPTS = ["The sheep", "A merino is", "Grüße aus Genève", "羊は丘で", "x" * 20]
BAD_LINES = [
    b"{",
    b"\xff\xfe",
    b"[" * 5000,
    b'{"op":"sing","id":1}',
    b'{"op":"generate","id":2,"prompt":""}',
    b'{"op":"generate","id":2,"ids":[123456789]}',
    b'{"op":"generate","id":2,"prompt":"x","top_p":7}',
    b'{"op":"cancel","id":"nobody"}',
    b'{"op":"generate","id":2,"prompt":"' + b"sheep " * 5000 + b'"}',
    b"x" * (300 << 10),
]


class Life:
    """What all clients share: how far it is, and what happened."""

    def __init__(self, path: str, pid: int, n_wanted: int, n_every: int):
        self.path, self.pid, self.n_wanted, self._n_every = path, pid, n_wanted, n_every
        self.samples: list[Sample] = []
        self.counts: Counter[str] = Counter()
        self._n_tokens, self._lock = 0, threading.Lock()

    @property
    def is_over(self) -> bool:
        """Whether enough was generated."""
        return self._n_tokens >= self.n_wanted

    def heard(self, event: dict) -> None:
        """Counts an event, and looks at the server every so often."""
        with self._lock:
            self.counts[event["event"]] += 1
            self.counts["ended " + event.get("finish_reason", event.get("code", ""))] += 1
            before = self._n_tokens
            self._n_tokens += len(event.get("ids", ()))
            if before // self._n_every != self._n_tokens // self._n_every:
                self.samples.append(look(self.pid, self._n_tokens))

    def did(self, what: str) -> None:
        """Counts something that a client did."""
        with self._lock:
            self.counts[what] += 1


def look(pid: int, n_tokens: int) -> Sample:
    """A process from outside."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as stream:
        pages = int(stream.read().split()[1])
    n_descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return Sample(n_tokens, pages * os.sysconf("SC_PAGE_SIZE"), n_descriptors)


class Client:
    """One after the other, connections of one client, until the life is over."""

    def __init__(self, life: Life, seed: int):
        self._life, self._rng = life, random.Random(seed)

    def run(self) -> None:
        """Live."""
        while not self._life.is_over:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(60)
                sock.connect(self._life.path)
                self._lines = sock.makefile("rb")
                self._sock = sock
                self._life.heard(self._next())
                for _ in range(self._rng.randint(1, 30)):
                    if self._life.is_over or not self._rng.choice(self._deeds())():
                        break
                self._lines.close()
                self._life.did("hung up")

    def _deeds(self) -> list[Callable[[], bool]]:
        usual = [self._read_to_the_end] * 6
        return [*usual, self._cancel, self._reset, self._nonsense, self._leave, self._chat]

    def _say(self, **fields: object) -> None:
        self._sock.sendall(json.dumps(fields).encode() + b"\n")

    def _next(self) -> dict:
        return json.loads(self._lines.readline())

    def _until(self, *names: str) -> dict:
        while True:
            event = self._next()
            self._life.heard(event)
            if event["event"] in names:
                return event

    def _ask(self, ask_id: int) -> None:
        fields: dict[str, object] = {"max_new_tokens": self._rng.randint(1, 200)}
        fields["eos_token_ids"] = []
        if self._rng.random() < 0.5:
            fields.update(temperature=0.8, top_k=40, top_p=0.95, seed=self._rng.randrange(1000))
        if self._rng.random() < 0.2:
            fields.update(stop=["qq", "zz"], repetition_penalty=1.1)
        self._say(op="generate", id=ask_id, prompt=self._rng.choice(PROMPTS), **fields)

    def _read_to_the_end(self) -> bool:
        self._ask(1)
        self._until("done", "error")
        return True

    def _chat(self) -> bool:
        messages = [{"role": "user", "content": self._rng.choice(PROMPTS)}]
        self._say(op="chat", id="chat", messages=messages, max_new_tokens=20)
        self._until("done", "error")
        return True

    def _cancel(self) -> bool:
        self._ask(1)
        self._until("token", "done")
        self._say(op="cancel", id=1)
        self._say(op="ping")
        self._until("pong")
        self._say(op="reset")
        self._until("reset")
        return True

    def _reset(self) -> bool:
        for ask_id in range(5):
            self._ask(ask_id)
        self._until("token")
        self._say(op="reset")
        self._until("reset")
        self._say(op="stats")
        self._until("stats")
        return True

    def _nonsense(self) -> bool:
        self._sock.sendall(self._rng.choice(BAD_LINES) + b"\n")
        return self._until("error") is not None

    def _leave(self) -> bool:
        for ask_id in range(self._rng.randint(1, 8)):
            self._ask(ask_id)
        self._until("token", "done")
        return False


def live(life: Life, n_clients: int, seed: int) -> None:
    """Several clients at a time, until the life is over."""
    clients = [Client(life, seed + i) for i in range(n_clients)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
