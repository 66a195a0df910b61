"""Render Jinja chat templates in a process of its own: ``python chat_render.py`` < cases > results.

A template comes from a stranger's file and is a program: sandboxed Jinja keeps it away from our
objects, but not from looping for ever or filling the memory. So it runs here, under limits of
processor time and memory, and the parent ends it when it takes too long. Imports nothing of ours.

In: {"template": text, "variables": {...}, "conversations": [[{"role", "content"}, ...], ...]}.
Out: one {"text": ...} or {"error": ...} for each conversation with each value of
``add_generation_prompt`` (false, then true).
"""

import json
import sys
from typing import Any

MAX_MEMORY_BYTES = 1 << 30
MAX_CPU_S = 10
MAX_TEXT = 1 << 20


def limit_resources() -> None:
    """Bound memory and processor time, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: the parent's time limit remains
        return
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))


def make_environment() -> Any:
    """The environment that Hugging Face templates are written for, without a clock."""
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = raise_exception
    return environment


def render(template: Any, variables: dict[str, Any]) -> dict[str, str]:
    """One rendering, or the error it ended in."""
    try:
        text = template.render(**variables)
    except Exception as error:  # a template may raise anything
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    return {"text": text} if len(text) <= MAX_TEXT else {"error": "the text is too long"}


def main() -> None:
    """Read cases from stdin, write results to stdout."""
    request = json.load(sys.stdin)
    limit_resources()
    try:
        template = make_environment().from_string(request["template"])
    except Exception as error:  # the compiler, too, reads a stranger's text
        json.dump({"error": f"{type(error).__name__}: {error}"[:200]}, sys.stdout)
        return
    results = [
        render(template, {**request["variables"], "messages": c, "add_generation_prompt": g})
        for c in request["conversations"]
        for g in (False, True)
    ]
    json.dump({"results": results}, sys.stdout)


if __name__ == "__main__":
    main()
