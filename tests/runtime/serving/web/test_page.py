"""The page at /, in a real browser: it chats, shows figures, and takes no text for a script."""

import shutil

import pytest
from doubles import edit_manifest, native_bundle
from serving_stand import answer, connect, head_of, stand

from merino_edge.runtime import GenerationConfig, load

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
TOKEN = "0123456789abcdef-page"


@pytest.fixture(scope="module")
def bundle(native_library, tmp_path_factory):
    return native_bundle(tmp_path_factory.mktemp("page") / "bundle")


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium; its complaints about the page are kept with each page."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if BROWSER is None:
        pytest.skip("no browser here (chromium)")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"]
        )
        yield found
        found.close()


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.complaints = []
    page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    page.close()


def visit(page, service):
    page.requests_made = []
    page.on("request", lambda request: page.requests_made.append(request.url))
    page.goto(f"http://127.0.0.1:{service.server.port}/")


def say(page, text, n_answers=1):
    page.fill("#text", text)
    page.click("#send")
    page.wait_for_selector(f"body[data-answers='{n_answers}']")


def test_it_chats_and_shows_how_fast(page, bundle):
    with stand(bundle, 2) as service, load(bundle) as session:
        visit(page, service)
        page.wait_for_selector("#about:has-text('context')")
        assert page.text_content("#name") == "tiny"
        say(page, "Hi")
        config = GenerationConfig.from_defaults(session.manifest.generation, max_new_tokens=48)
        expected = "".join(session.chat([{"role": "user", "content": "Hi"}], config))
        assert page.text_content("#log .user") == "Hi"
        assert page.text_content("#log .model") == expected
        figures = page.text_content("#figures")
        assert "tokens/s" in figures
        assert "first after" in figures
        assert "power not measured" in figures
        assert page.complaints == []
        host = f"http://127.0.0.1:{service.server.port}/"
        assert all(url.startswith((host, "data:")) for url in page.requests_made)


def test_a_plain_model_continues_the_text(page, bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "plain")
    edit_manifest(tmp_path / "plain", chat=None)
    with stand(str(tmp_path / "plain"), 1) as service:
        visit(page, service)
        page.wait_for_selector("#about:has-text('continues')")
        say(page, "The sheep")
        assert page.text_content("#log .model").startswith("The sheep")
        assert page.complaints == []


def test_what_looks_like_a_script_stays_text(page, bundle):
    with stand(bundle, 1) as service:
        visit(page, service)
        page.wait_for_selector("#about:has-text('context')")
        say(page, "<img src=x onerror=alert(1)>")
        assert page.text_content("#log .user") == "<img src=x onerror=alert(1)>"
        assert page.query_selector("#log img") is None


def test_it_asks_for_the_token_and_works_with_it(page, bundle):
    with stand(bundle, 1, tokens=[TOKEN]) as service:
        visit(page, service)
        page.wait_for_selector("#token:not([hidden])")
        page.fill("#token", TOKEN)
        page.press("#token", "Enter")
        page.wait_for_selector("#about:has-text('context')")
        say(page, "Hi")
        assert "tokens/s" in page.text_content("#figures")


def test_a_mistake_is_shown_where_the_answer_would_be(page, bundle):
    with stand(bundle, 1) as service:
        visit(page, service)
        page.wait_for_selector("#about:has-text('context')")
        say(page, "long " * 100)
        assert "shorten the prompt" in page.text_content("#log .wrong")


def test_it_needs_nothing_from_elsewhere(bundle):
    with stand(bundle, 1) as service, connect(service) as connection:
        connection.sendall(head_of("GET", "/"))
        status, headers, body = answer(connection)
    assert status == 200
    assert b"http://" not in body
    assert b"https://" not in body
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
