"""The fields of a request that the model takes; a server may take further ones."""

from .generation.options import NAMES
from .tools import declarations

TEMPLATE_VARIABLES = "chat_template_kwargs"
"""The field with variables of the chat template, as other servers name it."""

REASONING_EFFORT = "reasoning_effort"
"""OpenAI's option for thinking models."""

CHAT = (
    *("messages", *NAMES, "top_logprobs", "n"),
    *(*declarations.FIELDS, REASONING_EFFORT, TEMPLATE_VARIABLES),
)
COMPLETION = ("prompt", *NAMES, "echo", "n")
