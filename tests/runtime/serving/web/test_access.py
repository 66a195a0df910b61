"""Who may ask: this machine without a token, others with one, pages of the web never."""

import os

import pytest
from doubles import tiny_bundle
from serving_stand import asked, head_of, post_bytes, stand

from merino_edge.errors import UsageError
from merino_edge.runtime.serving.web.access import check_binding, others_may_read, read_tokens

TOKEN = "0123456789abcdef-first"
OTHER = "0123456789abcdef-other"
GOOD = {"prompt": "a", "max_tokens": 2}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("access") / "bundle")


@pytest.fixture(scope="module")
def guarded(bundle):
    with stand(bundle, tokens=[TOKEN, OTHER]) as service:
        yield service


@pytest.fixture(scope="module")
def local(bundle):
    with stand(bundle) as service:
        yield service


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "board.local", ""])
def test_without_a_token_no_address_of_others_is_served(host):
    with pytest.raises(UsageError, match="there is no token") as caught:
        check_binding(host, [])
    assert "--token-file" in caught.value.hint
    check_binding(host, [TOKEN])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_is_served_without_a_token(host):
    check_binding(host, [])


@pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
@pytest.mark.parametrize(
    "shown", ["Bearer", "Bearer wrong", "Bearer " + TOKEN[:-1], "Basic " + TOKEN, "Bearer \xe9"]
)
def test_a_wrong_token_is_refused(guarded, path, shown):
    status, headers, found = asked(guarded, head_of("GET", path, "Authorization: " + shown))
    assert status == 401
    assert headers["www-authenticate"] == "Bearer"
    assert found["error"]["type"] == "authentication_error"


def test_no_token_is_refused_before_the_body_is_read(guarded):
    assert asked(guarded, post_bytes("/v1/completions", b"{"))[0] == 401


@pytest.mark.parametrize("token", [TOKEN, OTHER])
def test_each_token_of_the_file_is_let_in(guarded, token):
    request = post_bytes("/v1/completions", GOOD, "Authorization: bearer " + token)
    assert asked(guarded, request)[0] == 200


def test_health_is_open_and_tells_nothing_else(guarded):
    status, _, found = asked(guarded, head_of("GET", "/health"))
    assert (status, found) == (200, {"status": "ok"})


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "10.0.0.1", "localhost.x"])
def test_a_page_that_renamed_itself_to_this_machine_is_refused(local, host):
    request = head_of("GET", "/v1/models").replace(b"Host: localhost", b"Host: " + host.encode())
    status, _, found = asked(local, request)
    assert (status, found["error"]["code"]) == (403, "wrong_host")


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:80", "LOCALHOST:1"])
def test_names_of_this_machine_are_let_in(local, host):
    request = head_of("GET", "/v1/models").replace(b"Host: localhost", b"Host: " + host.encode())
    assert asked(local, request)[0] == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_a_form_of_another_page_cannot_ask(local, kind):
    request = post_bytes("/v1/completions", GOOD).replace(b"application/json", kind.encode())
    assert asked(local, request)[0] == 415


def test_a_file_of_tokens_has_one_a_line_and_remarks(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# for the lab\n{TOKEN}\n\n {OTHER} \n")
    assert read_tokens(str(path)) == [TOKEN, OTHER]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no token is in it"),
        ("# only this\n", "no token is in it"),
        ("short\n", "1 of its tokens cannot be"),
        ("a token with blanks in it\n", "1 of its tokens cannot be"),
        ("größtenteils-geheimes-wort\n", "1 of its tokens cannot be"),
    ],
)
def test_a_bad_file_of_tokens_is_refused_without_telling_them(tmp_path, text, message):
    path = tmp_path / "tokens"
    path.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=message) as caught:
        read_tokens(str(path))
    assert text.strip("# \n") not in caught.value.message or not text.strip("# \n")
    with pytest.raises(UsageError, match="No such file"):
        read_tokens(str(tmp_path / "none"))


def test_a_file_that_others_can_read_is_noticed(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(TOKEN)
    os.chmod(str(path), 0o644)
    assert others_may_read(str(path))
    os.chmod(str(path), 0o600)
    assert not others_may_read(str(path))
