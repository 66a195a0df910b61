"""A chat template becomes plain strings when those say exactly the same, and only then."""

import pytest

pytest.importorskip("jinja2")

from hypothesis import given, settings
from hypothesis import strategies as st

from merino_edge.formats.manifest import RoleFormat
from merino_edge.model.importers import chat_render, chat_template
from merino_edge.model.importers.chat_template import chat_format_from_template

TURNS = "{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] + '\n' }}{% endfor %}"
OPENING = "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
DEFAULT_SYSTEM = (
    "{% for m in messages %}"
    "{% if loop.first and m['role'] != 'system' %}{{ '[system] Be kind.\n' }}{% endif %}"
    "{{ '[' + m['role'] + '] ' + m['content'] + '\n' }}{% endfor %}" + OPENING
)
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '<u>' + m['content'] + '</u>' }}"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)


def reason(template, **options):
    probe = chat_format_from_template(template, **options)
    assert probe.format is None
    return probe.reason


def test_roles_and_the_generation_prefix_are_found():
    chat = chat_format_from_template(TURNS + OPENING).format
    assert chat.roles["user"] == RoleFormat("[user] ", "\n")
    assert chat.roles["assistant"] == RoleFormat("[assistant] ", "\n")
    assert chat.roles["system"] == RoleFormat("[system] ", "\n")
    assert chat.generation_prefix == "[assistant] "
    assert chat.default_system is None


def test_a_default_system_message_is_found():
    chat = chat_format_from_template(DEFAULT_SYSTEM).format
    assert chat.default_system == "Be kind."
    assert chat.roles["system"] == RoleFormat("[system] ", "\n")


def test_a_template_without_a_system_role_gives_a_format_without_one():
    options = {"bos_token": "<s>", "eos_token": "</s>", "strip_bos": True}
    chat = chat_format_from_template(NO_SYSTEM, **options).format
    assert set(chat.roles) == {"user", "assistant"}
    assert chat.roles["user"] == RoleFormat("<u>", "</u>")
    assert chat.roles["assistant"] == RoleFormat("", "</s>")


def test_a_bos_that_nobody_else_adds_cannot_be_dropped():
    assert "text of its own" in reason(NO_SYSTEM, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (TURNS.replace("m['content']", "m['content'] | trim") + OPENING, "differs for"),
        (TURNS.replace("m['content']", "m['content'] | upper") + OPENING, "repeats, drops or"),
        ("{% for m in messages[-2:] %}{{ m['content'] }}\n{% endfor %}", "drops"),
        ("{{ messages | tojson }}", "depends on the others"),
        ("{{ strftime_now('%d %b %Y') }}" + TURNS, "strftime_now"),
        (
            "{% for m in messages %}{{ loop.index }}{{ m['content'] }}{% endfor %}",
            "depends on the others",
        ),
        ("{% for m in", "not valid Jinja"),
        ("{{ raise_exception('never') }}", "never"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}" + TURNS, "unsafe"),
        ("x" * 70000, "longer than"),
        ("{{ 'a' * 10 ** 10 }}", "MemoryError"),
    ],
)
def test_a_template_that_does_more_is_reported_not_approximated(template, why):
    assert why in reason(template)


def test_a_template_that_never_ends_is_stopped(monkeypatch):
    monkeypatch.setattr(chat_template, "TIMEOUT_S", 1.0)
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    assert "longer than 1 s" in reason(loop)


def test_the_sandbox_keeps_messages_as_they_are():
    template = chat_render.make_environment().from_string("{{ messages.append(1) }}")
    answer = chat_render.render(template, {"messages": [{"role": "user", "content": "x"}]})
    assert "unsafe" in answer["error"]


CONTENTS = st.lists(st.text(max_size=12), min_size=1, max_size=5).filter(lambda x: len(x) % 2)


@settings(max_examples=50, deadline=None)
@given(contents=CONTENTS, system=st.none() | st.text(max_size=12))
def test_found_strings_agree_with_the_template_on_any_conversation(contents, system):
    template = chat_render.make_environment().from_string(DEFAULT_SYSTEM)
    messages = chat_template._talk(*contents, system=system)
    variables = {"messages": messages, "add_generation_prompt": True}
    assert chat().render(messages) == chat_render.render(template, variables)["text"]


def chat(found={}):  # noqa: B006  (one probe for all examples)
    if "format" not in found:
        found["format"] = chat_format_from_template(DEFAULT_SYSTEM).format
    return found["format"]
