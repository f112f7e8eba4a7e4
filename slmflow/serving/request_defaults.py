"""Options for requests that leave them out: `generation.*`, as given to `serve`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slmflow.config.schema.config import Config
from slmflow.errors import UserError
from slmflow.runtime.prompts.template_variables import find_unused
from slmflow.runtime.request_fields import TEMPLATE_VARIABLES


@dataclass(frozen=True)
class RequestDefaults:
    """Options that a request gets where it leaves them out, over those logged with the model.

    variables: those of the chat template, for chat requests.
    """

    options: Mapping[str, Any]
    variables: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: Config, overrides: Sequence[str]) -> "RequestDefaults":
        """Return those of a server that was started with these Hydra overrides.

        A generation option holds if the overrides give it. A choice such as `generation=sampling`
        gives all of them but `max_new_tokens`, whose value in such a choice is meant for
        evaluation.
        """
        generation, given = config.generation, {each.partition("=")[0] for each in overrides}
        is_given = {
            name: "generation" in given
            or any(_is_within(key, f"generation.{name}") for key in given)
            for name in ("temperature", "top_p", "template")
        }
        length = generation.max_new_tokens
        options: dict[str, Any] = {
            "max_tokens": (
                length if "generation.max_new_tokens" in given else config.serve.default_max_tokens
            )
        }
        options |= {
            name: getattr(generation, name) for name in ("temperature", "top_p") if is_given[name]
        }
        return cls(options, generation.template if is_given["template"] else {})

    def fill(self, body: Mapping[str, Any], is_chat: bool) -> dict[str, Any]:
        """Return the body of a request with the options that it leaves out."""
        options = dict(self.options)
        if "max_completion_tokens" in body:  # the same option
            del options["max_tokens"]
        filled = {**options, **body}
        given = filled.get(TEMPLATE_VARIABLES) or {}
        if is_chat and self.variables and isinstance(given, Mapping):
            filled[TEMPLATE_VARIABLES] = {**self.variables, **given}
        return filled

    def check_variables(self, used: Collection[str]) -> None:
        """Raise UserError for a variable that the model's chat template does not use."""
        for problem in find_unused(self.variables, used):
            raise UserError(f"generation.template: {problem}")


def _is_within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")
