"""Events of a generation, written as OpenAI's API writes them: whole, or in parts as they come.

The one idea: one class knows the four shapes (a completion or a chat, whole or in parts); whoever
waits for tokens knows none. What we add stands beside the standard fields, where clients ignore it:
``timings`` (milliseconds, tokens a second, and in ``ended_by`` the exact reason), and the energy in
``usage``, which is null where the board does not measure it.
"""

import json
import os
import time
from typing import Any, Dict, List, Optional

from merino_edge.runtime.serving.job import End, Usage

DONE = b"data: [DONE]\n\n"


class Writing:
    """One answer.

    Args:
        is_chat: Which of the two.
        model: The model's name.
        fingerprint: Of its files.
        with_ids: Whether token ids are told.
    """

    def __init__(self, is_chat: bool, model: str, fingerprint: str, with_ids: bool):
        self._is_chat, self._with_ids = is_chat, with_ids
        prefix = "chatcmpl-" if is_chat else "cmpl-"
        self._common: Dict[str, Any] = {
            "id": prefix + os.urandom(12).hex(),
            "object": "chat.completion" if is_chat else "text_completion",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint,
        }

    def whole(self, text: str, ids: List[int], end: End) -> Dict[str, Any]:
        """The answer in one document."""
        choice = {"message": {"role": "assistant", "content": text}}
        found = self._document(choice if self._is_chat else {"text": text}, ids, _finish(end))
        return dict(found, usage=usage_of(end.usage), timings=timings_of(end))

    def opening(self) -> List[Dict[str, Any]]:
        """What a stream begins with."""
        return [self._part({"role": "assistant", "content": ""}, "", [])] if self._is_chat else []

    def part(self, text: str, ids: List[int]) -> Dict[str, Any]:
        """Some tokens of a stream."""
        return self._part({"content": text}, text, ids)

    def closing(self, end: End, with_usage: bool) -> List[Dict[str, Any]]:
        """What a stream ends with."""
        last = self._part({}, "", [], _finish(end))
        found = [dict(last, timings=timings_of(end))]
        if with_usage:
            usage = dict(self._streamed(), choices=[], usage=usage_of(end.usage))
            found.append(usage)
        return found

    def _part(
        self, delta: Dict[str, str], text: str, ids: List[int], finish: Optional[str] = None
    ) -> Dict[str, Any]:
        choice: Dict[str, Any] = {"delta": delta} if self._is_chat else {"text": text}
        return dict(self._document(choice, ids, finish), object=self._streamed()["object"])

    def _streamed(self) -> Dict[str, Any]:
        kind = "chat.completion.chunk" if self._is_chat else "text_completion"
        return dict(self._common, object=kind)

    def _document(
        self, choice: Dict[str, Any], ids: List[int], finish: Optional[str]
    ) -> Dict[str, Any]:
        choice = dict(choice, index=0, logprobs=None, finish_reason=finish)
        if self._with_ids:
            choice["token_ids"] = ids
        return dict(self._common, choices=[choice])


def event_bytes(document: Dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json_bytes(document) + b"\n\n"


def json_bytes(document: Any) -> bytes:
    """JSON on one line, in UTF-8."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def usage_of(usage: Usage) -> Dict[str, Any]:
    """Counts, and the energy where it was measured."""
    energy_mj = None if usage.energy_j is None else round(1e3 * usage.energy_j, 3)
    return {
        "prompt_tokens": usage.n_prompt,
        "completion_tokens": usage.n_generated,
        "total_tokens": usage.n_prompt + usage.n_generated,
        "energy_mj": energy_mj,
        "energy_mj_per_token": _rounded(usage.energy_mj_per_token),
    }


def timings_of(end: End) -> Dict[str, Any]:
    """How long it took, and why it ended, in our own words."""
    usage = end.usage
    return {
        "queue_ms": _rounded(usage.queue_ms),
        "ttft_ms": _rounded(usage.ttft_ms),
        "decode_tok_per_s": _rounded(usage.decode_tok_per_s),
        "ended_by": end.reason,
    }


def _finish(end: End) -> str:
    """OpenAI's word for it: an answer that was cut short is of limited length."""
    return "stop" if end.reason == "stop" else "length"


def _rounded(value: Optional[float]) -> Optional[float]:
    return None if value is None else round(value, 3)
