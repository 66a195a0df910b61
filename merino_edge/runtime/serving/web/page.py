"""The page at /: one model, one conversation, and how fast it goes.

The one idea: one file with nothing from elsewhere, so that it works on a board without a network;
its policy (Content-Security-Policy) lets it run its own script, which is named by checksum, and
talk to its own server, and nothing else. Text of the model only ever becomes text of the page.

A model without a chat format continues the text instead. A token, where the server wants one, stays
in the tab's session storage.
"""

import base64
import hashlib

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 46rem; margin: 0 auto; padding: 1rem; display: flex; flex-direction: column;
  min-height: 100vh; box-sizing: border-box; }
header { display: flex; gap: 1rem; flex-wrap: wrap; align-items: baseline; }
h1 { font-size: 1.1rem; margin: 0; }
#about, #figures { color: gray; font-size: 0.85rem; }
#log { flex: 1; padding: 1rem 0; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; padding: 0.5rem 0.8rem; margin: 0.4rem 0;
  border-radius: 0.6rem; border: 1px solid #8884; }
.user { background: #8882; margin-left: 15%; }
.wrong { color: #c33; }
form { display: flex; gap: 0.5rem; }
textarea { flex: 1; font: inherit; padding: 0.5rem; }
button { font: inherit; padding: 0 1rem; }
"""

_SCRIPT = """
"use strict";
const at = id => document.getElementById(id);
const storage = { token: "" };
try { storage.token = sessionStorage.getItem("token") || ""; } catch (error) { /* forbidden */ }
let model = null, said = [], running = null;

function headers() {
  const found = { "Content-Type": "application/json" };
  if (storage.token) found["Authorization"] = "Bearer " + storage.token;
  return found;
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { headers: headers(), ...options });
  if (answer.status === 401) {
    at("token").hidden = false;
    throw new Error("this server wants a token: enter it above.");
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => null);
    throw new Error(problem ? problem.error.message : "HTTP " + answer.status);
  }
  return answer;
}

async function begin() {
  model = (await (await ask("/v1/models")).json()).data[0];
  at("name").textContent = model.id;
  at("about").textContent = [
    (model.n_params / 1e6).toPrecision(3) + "M parameters", model.precision, model.backend,
    "context " + model.context_len, model.can_chat ? "chat" : "continues a text",
  ].join(" · ");
  at("text").placeholder = model.can_chat ? "Say something" : "A text to continue";
  at("token").hidden = true;
}

function show(kind, text) {
  const box = document.createElement("div");
  box.className = "said " + kind;
  box.textContent = text;
  at("log").append(box);
  box.scrollIntoView({ block: "end" });
  return box;
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (held + value).split("\\n\\n");
    held = parts.pop();
    for (const part of parts) {
      const data = part.slice("data: ".length);
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

function question(text) {
  const common = { model: model.id, stream: true, stream_options: { include_usage: true } };
  if (!model.can_chat) return ["/v1/completions", { ...common, prompt: text, max_tokens: 256 }];
  said.push({ role: "user", content: text });
  return ["/v1/chat/completions", { ...common, messages: said }];
}

function textOf(event) {
  const choice = (event.choices || [])[0] || {};
  return (choice.delta ? choice.delta.content : choice.text) || "";
}

function figures(count, firstMs, seconds, timings, usage) {
  const parts = [count + " tokens"];
  const first = timings ? timings.ttft_ms : firstMs;
  const rate = timings ? timings.decode_tok_per_s : seconds > 0 ? (count - 1) / seconds : null;
  if (first !== null) parts.push("first after " + first.toFixed(0) + " ms");
  if (rate) parts.push(rate.toFixed(1) + " tokens/s");
  if (timings) parts.push("ended by " + timings.ended_by);
  const energy = usage && usage.energy_mj_per_token;
  if (usage) parts.push(energy ? energy.toFixed(1) + " mJ/token" : "power not measured");
  at("figures").textContent = parts.join(" · ");
}

async function send(text) {
  const [path, body] = question(text);
  show("user", text);
  const box = show("model", model.can_chat ? "" : text);
  running = new AbortController();
  at("send").textContent = "Stop";
  const asked = performance.now();
  let first = null, count = 0, answered = "", timings = null, usage = null;
  try {
    const answer = await ask(path,
      { method: "POST", body: JSON.stringify(body), signal: running.signal });
    for await (const event of events(answer)) {
      if (event.error) throw new Error(event.error.message);
      const piece = textOf(event);
      if (piece) {
        if (first === null) first = performance.now();
        count += 1;
        answered += piece;
        box.append(piece);
      }
      timings = event.timings || timings;
      usage = event.usage || usage;
      const seconds = first === null ? 0 : (performance.now() - first) / 1e3;
      figures(usage ? usage.completion_tokens : count, first === null ? null : first - asked,
        seconds, timings, usage);
    }
  } catch (error) {
    if (error.name !== "AbortError") { box.classList.add("wrong"); box.append(error.message); }
  }
  if (model.can_chat) said.push({ role: "assistant", content: answered });
  running = null;
  at("send").textContent = "Send";
  document.body.dataset.answers = Number(document.body.dataset.answers || 0) + 1;
}

at("form").addEventListener("submit", event => {
  event.preventDefault();
  if (running) { running.abort(); return; }
  const text = at("text").value;
  if (!model || !text.trim()) return;
  at("text").value = "";
  send(text);
});
at("text").addEventListener("keydown", event => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("form").requestSubmit();
});
at("token").addEventListener("change", event => {
  storage.token = event.target.value.trim();
  try { sessionStorage.setItem("token", storage.token); } catch (error) { /* forbidden */ }
  begin().catch(failed);
});
const failed = error => { at("about").textContent = error.message; };
at("new").addEventListener("click", () => {
  if (running) running.abort();
  said = [];
  at("log").replaceChildren();
  at("figures").textContent = "";
});
begin().catch(failed);
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>merino-edge</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header><h1 id="name">merino-edge</h1><span id="about"></span>
<button id="new" type="button">New</button>
<input id="token" type="password" placeholder="token" autocomplete="off" hidden></header>
<main id="log" aria-live="polite"></main>
<p id="figures"></p>
<form id="form"><textarea id="text" rows="2" aria-label="text" autofocus></textarea>
<button id="send">Send</button></form>
<script>{script}</script>
</body>
</html>
"""


def _checksum(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest())
    return "'sha256-{}'".format(digest.decode("ascii"))


PAGE = _PAGE.format(style=_STYLE, script=_SCRIPT).encode("utf-8")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src {}; "
    "script-src {}".format(_checksum(_STYLE), _checksum(_SCRIPT)),
    "Cache-Control": "no-cache",
}
