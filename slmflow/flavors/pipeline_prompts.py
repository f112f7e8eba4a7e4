"""Turn messages and texts into token ids as a loaded transformers pipeline does."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from slmflow.checkpoints.chat_template import default_template, tool_template
from slmflow.runtime.errors import reject
from slmflow.runtime.generation.reasoning import ReasoningReader
from slmflow.runtime.prompts.message_encoder import Message, encode_document
from slmflow.runtime.prompts.template import NO_TEMPLATE, template_variables
from slmflow.runtime.tools.declarations import Declaration
from slmflow.runtime.tools.template_support import ToolTemplate


class PipelinePromptEncoder:
    """The `PromptEncoder` of a pipeline's own tokenizer and chat template."""

    def __init__(self, tokenizer: Any) -> None:
        """Use a fast tokenizer of transformers."""
        self._tokenizer = tokenizer
        self.tokenizer = tokenizer.backend_tokenizer
        template = default_template(tokenizer)
        self.takes_messages = bool(template)
        self.template_variables = template_variables(template)
        self.reasoning = ReasoningReader(template, self.tokenizer)
        self.tools = ToolTemplate(self._render, tool_template(tokenizer), self.tokenizer)

    def encode_chat(
        self,
        messages: Sequence[Message],
        variables: Mapping[str, Any] = MappingProxyType({}),
        tools: Sequence[Declaration] = (),
        *,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """Return the token ids of a conversation, by default up to where the answer begins."""
        if not self.takes_messages:
            reject(NO_TEMPLATE, param="messages")
        messages, tool_variables = self.tools.arrange(messages, tools)
        try:
            text = self._render(messages, {**variables, **tool_variables}, add_generation_prompt)
        except Exception as error:
            reject(f"the model's chat template rejects these messages: {error}", param="messages")
        return self.encode_text(text)

    def _render(
        self,
        messages: Sequence[Message],
        variables: Mapping[str, Any],
        add_generation_prompt: bool = True,
    ) -> str:
        text: str = self._tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            **variables,
        )
        return text

    def encode_document(self, text: str) -> list[int]:
        """Return the token ids of a plain text, with the tokenizer's BOS."""
        return encode_document(self.tokenizer, text)

    def encode_text(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens added by the tokenizer."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids
