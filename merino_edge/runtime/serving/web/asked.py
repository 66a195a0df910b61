"""A request of OpenAI's API, understood or refused.

The one idea: a field is obeyed, or it is refused by name. What this server does not do (several
answers, log-probabilities, tools) is accepted only where the value asks for nothing, because a
client that is silently not obeyed finds out much later. ``null`` is as good as absent.

Sampling starts from what the bundle recommends; naming temperature, top_p or top_k draws, and
temperature 0 takes the likeliest token.
"""

import json
import os
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from merino_edge.errors import SpecError
from merino_edge.formats.manifest import GenerationDefaults
from merino_edge.runtime.sampling import GenerationConfig
from merino_edge.runtime.serving.job import Messages
from merino_edge.runtime.serving.web.problem import Problem, refused_fields, wrong

DEFAULT_MAX_TOKENS = 16  # of a completion, as OpenAI's; a conversation goes on to its end
LEAST_TEMPERATURE = 1e-4  # below it the likeliest token is certain, and exp() would overflow
MOST_STOPS, MOST_STOP_CHARACTERS = 16, 1000

# Fields that ask for nothing with these values, and for what there is not with any other.
_NOTHING: Dict[str, Tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "web_search_options": (),
}
# Fields that say something about the client, and change no token.
_IGNORED = ("metadata", "safety_identifier", "prompt_cache_key")
_COMMON = (
    "model",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "top_k",
    "repetition_penalty",
    "min_tokens",
    "max_tokens",
    "seed",
    "stop",
    "user",
    "return_token_ids",
)


class Asked(NamedTuple):
    """What is to be generated, and how it is to be told.

    Attributes:
        prompt: Text, token ids or a conversation.
        config: How.
        stream: Told while it comes.
        with_usage: Whether a stream ends with its usage.
        with_ids: Whether token ids are told as well.
        user: The client's name for whom it asks.
    """

    prompt: Any
    config: GenerationConfig
    stream: bool
    with_usage: bool
    with_ids: bool
    user: str


def completion_of(fields: Dict[str, Any], defaults: GenerationDefaults) -> Asked:
    """Of /v1/completions.

    Raises:
        Problem: 400, with the field.
    """
    _check_names(fields, _COMMON + ("prompt",))
    most = _number(fields, "max_tokens", int, DEFAULT_MAX_TOKENS)
    return _asked(fields, _prompt(fields), most, defaults)


def chat_of(fields: Dict[str, Any], defaults: GenerationDefaults, context_len: int) -> Asked:
    """Of /v1/chat/completions.

    Raises:
        Problem: 400, with the field.
    """
    _check_names(fields, _COMMON + ("messages", "max_completion_tokens"))
    most = _number(fields, "max_tokens", int, context_len)
    most = _number(fields, "max_completion_tokens", int, most)
    return _asked(fields, _messages(fields), most, defaults)


def _asked(fields: Dict[str, Any], prompt: Any, most: int, defaults: GenerationDefaults) -> Asked:
    options = fields.get("stream_options", {})
    if not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}:
        raise wrong("stream_options", "may hold include_usage only.")
    return Asked(
        prompt=prompt,
        config=_config(fields, most, defaults),
        stream=_flag(fields, "stream"),
        with_usage=_flag(options, "include_usage"),
        with_ids=_flag(fields, "return_token_ids"),
        user=_text(fields, "user")[:100],
    )


def _config(fields: Dict[str, Any], most: int, defaults: GenerationDefaults) -> GenerationConfig:
    chosen: Dict[str, Any] = {"max_new_tokens": most, "stop": _stops(fields)}
    chosen["min_new_tokens"] = _number(fields, "min_tokens", int, 0)
    for name, kind in (("temperature", float), ("top_p", float), ("top_k", int)):
        if name in fields:
            chosen[name] = _number(fields, name, kind, 0)
            chosen["do_sample"] = True
    if 0.0 < chosen.get("temperature", 0.0) < LEAST_TEMPERATURE:
        chosen["temperature"] = 0.0
    if "repetition_penalty" in fields:
        chosen["repetition_penalty"] = _number(fields, "repetition_penalty", float, 1.0)
    chosen["seed"] = _number(fields, "seed", int, _any_seed()) % 2**32
    _check_ranges(fields)
    try:
        return GenerationConfig.from_defaults(defaults, **chosen)
    except SpecError as error:
        raise Problem(400, error.message, "invalid_value")


def _check_ranges(fields: Dict[str, Any]) -> None:
    """Tighter than a GenerationConfig's own: what OpenAI allows, and what float64 can bear."""
    for name, least, most in (("temperature", 0.0, 2.0), ("repetition_penalty", 0.01, 100.0)):
        if name in fields and not least <= fields[name] <= most:
            raise wrong(name, "is {}, must be from {} to {}.".format(fields[name], least, most))


def _prompt(fields: Dict[str, Any]) -> Any:
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], (str, list)):
        prompt = prompt[0]  # a list of one prompt is that prompt
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and prompt and all(type(each) is int for each in prompt):
        return prompt
    if isinstance(prompt, list) and len(prompt) > 1 and isinstance(prompt[0], (str, list)):
        raise wrong("prompt", "holds several prompts; send them one by one.")
    raise wrong("prompt", "must be a text, or a list of token ids.")


def _messages(fields: Dict[str, Any]) -> Messages:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise wrong("messages", "must be a list of messages, one at least.")
    return [_message(each, "messages[{}]".format(number)) for number, each in enumerate(messages)]


def _message(message: Any, param: str) -> Dict[str, str]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise wrong(param, "must be an object with role and content.")
    others = {name for name, value in message.items() if value} - {"role", "content", "name"}
    if others:
        raise wrong("{}.{}".format(param, sorted(others)[0]), "is not supported.")
    role = "system" if message["role"] == "developer" else message["role"]
    return {"role": role, "content": _content(message.get("content"), param + ".content")}


def _content(content: Any, param: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise wrong(param, "must be a text.")
    parts: List[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            raise wrong(param, "may hold parts of the type text only.")
        parts.append(part["text"])
    return "".join(parts)


def _stops(fields: Dict[str, Any]) -> Tuple[str, ...]:
    stops = fields.get("stop", [])
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(stops, list) or not all(isinstance(each, str) and each for each in stops):
        raise wrong("stop", "must be a text or a list of texts, none of them empty.")
    if len(stops) > MOST_STOPS or any(len(each) > MOST_STOP_CHARACTERS for each in stops):
        raise wrong(
            "stop", "may hold {} texts of {} characters.".format(MOST_STOPS, MOST_STOP_CHARACTERS)
        )
    return tuple(stops)


def _check_names(fields: Dict[str, Any], known: Tuple[str, ...]) -> None:
    for name, harmless in _NOTHING.items():
        if name in fields and name not in known and not _is_one_of(fields[name], harmless):
            what = "{} is not supported{}".format(
                name, "; leave it away, or send " + json.dumps(harmless[0]) if harmless else ""
            )
            raise Problem(400, what + ".", "unsupported_value", name)
    unknown = sorted(set(fields) - set(known) - set(_NOTHING) - set(_IGNORED))
    if unknown:
        raise refused_fields(tuple(unknown))


def _is_one_of(value: Any, harmless: Tuple[Any, ...]) -> bool:
    """Whether it is one of them; True is not 1, though 0.0 is 0."""
    alike = [each for each in harmless if isinstance(each, bool) == isinstance(value, bool)]
    return any(value == each for each in alike)


def _number(fields: Dict[str, Any], name: str, kind: Callable[[Any], Any], default: Any) -> Any:
    value = fields.get(name, default)
    kinds = (int,) if kind is int else (int, float)
    if type(value) not in kinds:
        raise wrong(name, "must be a {}number.".format("whole " if kind is int else ""))
    return kind(value)


def _flag(fields: Dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    if not isinstance(value, (bool, type(None))):
        raise wrong(name, "must be true or false.")
    return bool(value)


def _text(fields: Dict[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise wrong(name, "must be a text.")
    return value


def _any_seed() -> int:
    return int.from_bytes(os.urandom(4), "big")
