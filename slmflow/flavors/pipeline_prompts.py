"""Turn messages and texts into token ids as a loaded transformers pipeline does."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from slmflow.checkpoints.chat_template import default_template
from slmflow.runtime.errors import reject
from slmflow.runtime.generation.reasoning import ReasoningReader
from slmflow.runtime.prompts.message_encoder import Message, encode_document
from slmflow.runtime.prompts.template import NO_TEMPLATE, template_variables


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

    def encode_chat(
        self, messages: Sequence[Message], variables: Mapping[str, Any] = MappingProxyType({})
    ) -> list[int]:
        """Return the token ids of a conversation, up to where the answer begins."""
        if not self.takes_messages:
            reject(NO_TEMPLATE)
        try:
            ids: list[int] = self._tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, return_dict=False, **variables
            )
        except Exception as error:
            reject(f"the model's chat template rejects these messages: {error}")
        return ids

    def encode_document(self, text: str) -> list[int]:
        """Return the token ids of a plain text, with the tokenizer's BOS."""
        return encode_document(self.tokenizer, text)

    def encode_text(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens added by the tokenizer."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids
