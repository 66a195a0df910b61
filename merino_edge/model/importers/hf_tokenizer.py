"""What lies beside the weights in a Hugging Face folder: tokenizer, chat template, defaults.

Each of these may be missing or written in several ways, by age of the folder: special tokens as a
text or an object, a template inside tokenizer_config.json or in a file of its own, one end of text
or a list. What they say is taken literally; nothing is guessed from the model's family.
"""

import json
import os
from typing import Any

from merino_edge.errors import FormatError, UsageError
from merino_edge.formats import jsonio
from merino_edge.formats.manifest import GenerationDefaults
from merino_edge.formats.tokenizer_file import portable_json
from merino_edge.model.checkpoint import read_text
from merino_edge.model.importers.chat_template import ChatProbe, chat_format_from_template
from merino_edge.model.importers.hf_config import Config

TOKENIZER = "tokenizer.json"
_TEMPLATE = "chat_template.jinja"
_SAMPLING = ("do_sample", "temperature", "top_k", "top_p", "repetition_penalty")
_CONVERT = (
    'python -c "import sys; from transformers import AutoTokenizer as T; '
    'T.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[1])" {}'
)


class TokenizerFolder:
    """Everything of a folder that is about text.

    Args:
        path: The folder.
        config: Its config.json, which old folders keep some of this in.
        tokenizer_json: A tokenizer to use in place of the folder's.
    """

    def __init__(self, path: str, config: Config, tokenizer_json: str | None = None):
        self.path = path
        self._config = config.document
        self._given = tokenizer_json
        self._about = self._object("tokenizer_config.json")
        self._defaults = self._object("generation_config.json")

    def tokenizer_json(self) -> str:
        """The tokenizer, in the form that a board reads.

        Raises:
            FormatError: There is none, or it is damaged.
            UnsupportedError: The board's reader cannot express it.
        """
        if self._given is not None:
            return self._given
        path = os.path.join(self.path, TOKENIZER)
        if not os.path.isfile(path):
            raise FormatError(
                "the file does not exist.",
                path,
                note="older folders have vocab.json and merges.txt only.",
                hint="name one with --tokenizer FILE, or make it: " + _CONVERT.format(self.path),
            )
        return portable_json(read_text(path), path)

    def generation(self) -> GenerationDefaults:
        """Which tokens begin and end a text, and how the maker samples.

        A text begins with ``bos`` where the folder says that its tokenizer adds it: OPT's and
        Llama's do, SmolLM2's, GPT-2's and Pythia's do not.

        Raises:
            FormatError: A value of an impossible kind.
        """
        ends = self._value("eos_token_id")
        ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
        fields = {"eos_token_ids": ends, "bos_token_id": self._value("bos_token_id")}
        if not self._adds_bos():
            fields["bos_token_id"] = None
        fields.update(
            {k: self._defaults[k] for k in _SAMPLING if self._defaults.get(k) is not None}
        )
        where = os.path.join(self.path, "generation_config.json")
        defaults: GenerationDefaults = jsonio.decode(GenerationDefaults, fields, where)
        return defaults

    def chat(self) -> ChatProbe:
        """The plain strings behind the template, if there is one."""
        template = self._chat_template()
        if template is None:
            return ChatProbe(None, "the folder has no chat template")
        bos, eos = self._text("bos_token"), self._text("eos_token")
        return chat_format_from_template(template, bos, eos, strip_bos=self._adds_bos())

    def _chat_template(self) -> str | None:
        path = os.path.join(self.path, _TEMPLATE)
        if os.path.isfile(path):
            return read_text(path)
        template = self._about.get("chat_template")
        if isinstance(template, list):  # several, by name
            named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
            template = named.get("default")
        return template if isinstance(template, str) else None

    def _adds_bos(self) -> bool:
        told = self._about.get("add_bos_token")
        if told is None and self._given is None:  # newer folders leave it to the tokenizer's rule
            rule = json.loads(self.tokenizer_json())["post_processor"] or {}
            first = (rule.get("single") or [{}])[0].get("SpecialToken", {}).get("id")
            return first is not None and first == self._text("bos_token")
        return told is True

    def _value(self, key: str) -> Any:
        """From generation_config.json, or else from config.json, where old folders have it."""
        value = self._defaults.get(key)
        return self._config.get(key) if value is None else value

    def _text(self, key: str) -> str:
        value = self._about.get(key)
        value = value.get("content") if isinstance(value, dict) else value
        return value if isinstance(value, str) else ""

    def _object(self, name: str) -> dict[str, Any]:
        path = os.path.join(self.path, name)
        document = jsonio.read_json(path) if os.path.isfile(path) else {}
        if not isinstance(document, dict):
            raise FormatError("it does not hold a JSON object.", path)
        return document


def read_tokenizer(path: str) -> str:
    """A tokenizer.json that was named on the command line, in the form that a board reads.

    Raises:
        UsageError: There is no such file.
        FormatError: It is damaged.
        UnsupportedError: The board's reader cannot express it.
    """
    if not os.path.isfile(path):
        raise UsageError(f"--tokenizer: there is no file '{path}'.")
    return portable_json(read_text(path), path)
