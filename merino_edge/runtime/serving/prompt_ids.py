"""The prompt of a request as token ids that fit, or why it cannot be run.

The one idea: what a session would refuse is refused before it waits in a queue.
"""

from typing import Dict, List, Optional

from merino_edge.errors import SessionError
from merino_edge.runtime.serving.job import Request
from merino_edge.runtime.session import GenerationSession


def prompt_ids(session: GenerationSession, request: Request, limit: Optional[int]) -> List[int]:
    """Token ids of a text, of a conversation, or of ids as they are.

    Args:
        session: Any of the model's.
        request: What was asked.
        limit: Longest prompt in tokens; None for what the context holds.

    Raises:
        MerinoError: It cannot be run, ever (see the package's docstring).
    """
    prompt = request.prompt
    if isinstance(prompt, str):
        ids = session.encode_prompt(prompt)
    elif prompt and isinstance(prompt[0], dict):
        messages: List[Dict[str, str]] = list(prompt)  # type: ignore[arg-type]
        ids = session.encode_prompt(session.chat_prompt(messages))
    else:
        ids = [int(token_id) for token_id in prompt]  # type: ignore[arg-type]
    if request.config.stop and session.tokenizer is None:
        session.encode_prompt("")  # says what is missing
    _check(session, ids, min(limit or session.context_len, session.context_len))
    return ids


def _check(session: GenerationSession, ids: List[int], most: int) -> None:
    if not ids:
        raise SessionError("the prompt is empty.", hint="give at least one token.")
    if len(ids) > most:
        raise SessionError(
            "the prompt has {} tokens, the limit is {}.".format(len(ids), most),
            note="the context holds {} tokens.".format(session.context_len),
            hint="shorten the prompt.",
        )
    outside = [i for i in ids if not 0 <= i < session.backend.vocab_size]
    if outside:
        raise SessionError(
            "token {} is outside the vocabulary of {}.".format(
                outside[0], session.backend.vocab_size
            ),
            hint="use the tokenizer of this bundle.",
        )
