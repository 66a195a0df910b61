"""Make ``socket_transcripts.json`` again: what a client says, and what the server answers.

The bundle is the tiny one beside this file, on the reference backend, so the tokens are the same on
every machine. Times are written as "number". Read ``git diff`` before you commit: a line that
changed is a change of the protocol, and old clients will meet it.

    python tests/golden/make_socket_transcripts.py
"""

import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from socket_client import SocketClient, without_times  # noqa: E402

from merino_edge.formats import jsonio  # noqa: E402
from merino_edge.runtime.serving.pool import open_sessions  # noqa: E402
from merino_edge.runtime.serving.scheduler import Scheduler  # noqa: E402
from merino_edge.runtime.serving.socket_server import SocketServer  # noqa: E402

# One request at a time, so that the order of the lines is always the same.
CONVERSATIONS = {
    "a text is continued": [
        '{"op":"generate","id":1,"prompt":"The sheep","max_new_tokens":4}',
        '{"op":"generate","id":1,"prompt":"The sheep","max_new_tokens":4,"top_k":5,"seed":7}',
    ],
    "ids, a stop and a chat": [
        '{"op":"generate","id":"ids","ids":[5,3,1],"max_new_tokens":2,"eos_token_ids":[]}',
        '{"op":"chat","id":"c","messages":[{"role":"system","content":"Count."},'
        '{"role":"user","content":"Sheep?"}],"max_new_tokens":3}',
    ],
    "small talk": ['{"op":"ping"}', '{"op":"ping","id":"p"}', '{"op":"stats"}', '{"op":"reset"}'],
    "what is refused": [
        "{",
        '{"op":"sing","id":1}',
        '{"op":"generate","prompt":"no id"}',
        '{"op":"generate","id":1,"prompt":""}',
        '{"op":"generate","id":1,"ids":[300]}',
        '{"op":"generate","id":1,"prompt":"x","temprature":1}',
        '{"op":"generate","id":1,"prompt":"x","top_p":2}',
        '{"op":"chat","id":1,"messages":[{"role":"poet","content":"x"}]}',
        '{"op":"cancel","id":1}',
        '{"op":"ping"}',
    ],
}


def converse(path: str, lines: list) -> list:
    """The turns of one connection: {"client": line} or {"server": event}."""
    with SocketClient(path) as client:
        turns = [{"server": without_times(client.hello)}]
        for line in lines:
            client.send(line.encode("utf-8"))
            turns.append({"client": line})
            while True:
                event = client.next()
                turns.append({"server": without_times(event)})
                if event["event"] not in ("accepted", "token"):
                    break
    return turns


def main() -> None:
    """Write the file."""
    sessions = open_sessions(os.path.join(HERE, "tiny-bundle"), 1, "reference")
    with tempfile.TemporaryDirectory() as folder, Scheduler(sessions) as scheduler:
        said = {}
        for name, lines in CONVERSATIONS.items():
            path = os.path.join(folder, "socket")
            with SocketServer(scheduler, path):
                said[name] = converse(path, lines)
    text = json.dumps(said, indent=1, ensure_ascii=False) + "\n"
    jsonio.write_bytes_atomic(os.path.join(HERE, "socket_transcripts.json"), text.encode("utf-8"))


if __name__ == "__main__":
    main()
