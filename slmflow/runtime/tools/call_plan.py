"""Decide for one request how calls of its tools are found, and how they are enforced."""

from dataclasses import dataclass, replace

from ..errors import reject
from ..generation.guidance import Guidance
from .declarations import ToolRequest
from .formats import ToolFormat
from .grammar import guide_answer_or_calls, guide_calls
from .parser import CallFormat
from .template_support import ToolTemplate


@dataclass(frozen=True)
class CallPlan:
    """The tools of one request to one model."""

    request: ToolRequest
    format: ToolFormat

    @property
    def calls(self) -> CallFormat:
        """How to find the calls of a completion."""
        names, is_guided = frozenset(self.request.schemas), self.request.is_required
        return CallFormat(self.format, names, self.request.parallel, is_guided)

    def guide(self, answer: Guidance | None) -> Guidance | None:
        """Return what constrains a completion whose answer has to have a form, or None.

        A required call rules out an answer. Raises MlflowException (HTTP 400), which names the
        field, for a schema beyond limits, and where the model's tokenizer rules guidance out.
        """
        if self.request.is_required:
            if not self.format.is_enforceable:
                reject(
                    "tool_choice: required and named tools are not supported by this model's "
                    "tokenizer: use auto",
                    param="tool_choice",
                )
            return guide_calls(self.request, self.format)
        if answer is None:
            return None
        if not self.format.is_enforceable:
            reject(
                "response_format: not supported with tools by this model's tokenizer: leave out "
                "one of them",
                param="response_format",
            )
        return guide_answer_or_calls(answer, self.request, self.format)


def plan_calls(
    request: ToolRequest, template: ToolTemplate, *, supports_guidance: bool
) -> CallPlan:
    """Return the plan for a request.

    Raises MlflowException (HTTP 400) where the model's format of calls is not known, and where a
    call is required that cannot be enforced.
    """
    if template.format is None:
        reject(
            "tools: the format in which this model calls tools is not supported: leave them out",
            param="tools",
        )
    if request.is_required and not supports_guidance:
        reject(
            "tool_choice: required and named tools are not supported by this flavor: use auto",
            param="tool_choice",
        )
    parallel = request.parallel and template.allows_parallel
    return CallPlan(replace(request, parallel=parallel), template.format)
