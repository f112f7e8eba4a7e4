"""Split the reasoning off a thinking model's answer: the block between two tags at its start.

The block is opened by the model, or by its chat template at the end of the prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tokenizers import Tokenizer

# More than any start tag and the white space after it has.
_TAIL_TOKENS = 32


@dataclass(frozen=True)
class Tags:
    """The texts before and after the reasoning."""

    start: str
    end: str


_THINK = Tags("<think>", "</think>")

# The tags of other models, which count only where the template or the vocabulary has them.
_OTHER_TAGS = (
    Tags("[THINK]", "[/THINK]"),  # Magistral, Ministral
    Tags("<thought>", "</thought>"),  # EXAONE Deep
    Tags("<thinking>", "</thinking>"),
    Tags("<reasoning>", "</reasoning>"),
    Tags("<seed:think>", "</seed:think>"),  # Seed-OSS
    Tags("<|channel>thought", "<channel|>"),  # Gemma 4
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    Tags("<|begin_of_thought|>", "<|end_of_thought|>"),
    Tags("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
)


@dataclass(frozen=True)
class SplitText:
    """Reasoning and answer, or the next piece of each."""

    reasoning: str = ""
    answer: str = ""


@dataclass(frozen=True)
class ReasoningFormat:
    """How the completions of a model contain reasoning.

    tags: pairs that may open a completion; opened: the pair whose start ends the prompt, so that
    completions begin inside the block; may_lack_start: whether a completion with an end tag only
    has reasoning before it, which is known of whole texts only; tag_tokens: the texts of the
    special tokens in the tags, by id.
    """

    tags: tuple[Tags, ...] = (_THINK,)
    opened: Tags | None = None
    may_lack_start: bool = False
    tag_tokens: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Return the format in an object that `to_json` returned."""
        opened = fields["opened"]
        return cls(tuple(Tags(*pair) for pair in fields["tags"]), Tags(*opened) if opened else None)

    def to_json(self) -> dict[str, Any]:
        """Return the tags as plain lists."""
        opened = self.opened and [self.opened.start, self.opened.end]
        return {"tags": [[pair.start, pair.end] for pair in self.tags], "opened": opened}

    @property
    def closing(self) -> str:
        """The text that ends an opened block, so that an answer may follow; else empty."""
        return f"\n{self.opened.end}\n\n" if self.opened else ""

    def split(self, text: str) -> SplitText:
        """Split a whole completion. A text without reasoning remains as it is."""
        splitter = ReasoningSplitter(self)
        first, last = splitter.push(text), splitter.flush()
        if splitter.has_block:
            return SplitText(
                first.reasoning + last.reasoning, (first.answer + last.answer).lstrip()
            )
        for tags in self.tags if self.may_lack_start else ():
            reasoning, end, answer = text.partition(tags.end)
            if end:
                return SplitText(reasoning.strip(), answer.lstrip())
        return SplitText(answer=text)


def overlap(text: str, strings: Sequence[str]) -> int:
    """Return how many characters at the end of a text may start one of the strings."""
    return max(
        (
            length
            for string in strings
            for length in range(1, min(len(string), len(text) + 1))
            if text.endswith(string[:length])
        ),
        default=0,
    )


class ReasoningReader:
    """Find the reasoning in the completions of one model."""

    def __init__(self, template: str | None, tokenizer: Tokenizer) -> None:
        """Find the model's tags in its chat template, as Jinja source, and in its vocabulary."""
        self._template, self._tokenizer = template or "", tokenizer
        others = (tags for tags in _OTHER_TAGS if self._has(tags))
        self._tags = (_THINK, *others)
        # Special tokens have no text in a completion; those of the tags are needed to find them.
        self._tag_tokens = {
            token_id: token.content
            for token_id, token in tokenizer.get_added_tokens_decoder().items()
            if token.special and any(token.content in (t.start + "\0" + t.end) for t in self._tags)
        }

    def format(self, prompt: Sequence[int]) -> ReasoningFormat:
        """Return the format of the completion of a prompt, given as token ids."""
        tail = self._tokenizer.decode(list(prompt[-_TAIL_TOKENS:]), skip_special_tokens=False)
        opened = (
            tags
            for tags in self._tags
            # Where the template has no such tag, it is the user who wrote it.
            if tags.start in self._template and tail.rstrip().endswith(tags.start)
        )
        return ReasoningFormat(self._tags, next(opened, None), tag_tokens=self._tag_tokens)

    def _has(self, tags: Tags) -> bool:
        in_vocabulary = self._tokenizer.token_to_id(tags.end) is not None
        return in_vocabulary or tags.end in self._template


class ReasoningSplitter:
    """Split the text of a completion as it is generated.

    Text that may be part of a tag is held back until that is decided. White space around the
    reasoning is dropped; that before the answer is not.
    """

    def __init__(self, format_: ReasoningFormat) -> None:
        """Start a completion."""
        self.tag_tokens = format_.tag_tokens
        self._format = format_
        self._opened = format_.opened
        self._is_at_start = True
        self._held = ""
        self.has_reasoned = False
        self.is_answer = False

    @property
    def has_block(self) -> bool:
        """Whether the reasoning has begun; it may be empty."""
        return self._opened is not None

    @property
    def held_length(self) -> int:
        """The number of characters held back."""
        return len(self._held)

    def push(self, piece: str) -> SplitText:
        """Add text and return what is now final."""
        if self.is_answer:
            return SplitText(answer=piece)
        self._held += piece
        if self._is_at_start:
            self._read_start_tag()
        if self._is_at_start:
            return SplitText()
        return self._read_reasoning() if self._opened else self._start_answer("", self._held)

    def flush(self) -> SplitText:
        """Return the text held back, at the end of the completion."""
        if self._opened and not self.is_answer:
            return SplitText(self._next_reasoning(self._held.rstrip()))
        return SplitText(answer="" if self.is_answer else self._held)

    def _read_start_tag(self) -> None:
        """Read the start tag, if the text begins with one. It may repeat that of the prompt."""
        text = self._held.lstrip()
        candidates = (self._opened,) if self._opened else self._format.tags
        if any(tags.start != text and tags.start.startswith(text) for tags in candidates):
            return
        self._is_at_start = False
        for tags in candidates:
            if text.startswith(tags.start):
                self._opened, self._held = tags, text.removeprefix(tags.start)
                return

    def _read_reasoning(self) -> SplitText:
        end_tag = self._opened.end if self._opened else ""
        reasoning, end, answer = self._held.partition(end_tag)
        if end:
            return self._start_answer(self._next_reasoning(reasoning.rstrip()), answer)
        final = len(reasoning[: len(reasoning) - overlap(reasoning, [end_tag])].rstrip())
        self._held = reasoning[final:]
        return SplitText(self._next_reasoning(reasoning[:final]))

    def _next_reasoning(self, piece: str) -> str:
        piece = piece if self.has_reasoned else piece.lstrip()
        self.has_reasoned = self.has_reasoned or bool(piece)
        return piece

    def _start_answer(self, reasoning: str, answer: str) -> SplitText:
        self.is_answer, self._held = True, ""
        return SplitText(reasoning, answer)
