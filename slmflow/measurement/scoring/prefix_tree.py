"""Find the prefixes that several texts share, such as a system message and examples."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from slmflow.runtime.readings import Reading, common_length

# A prefix is kept only where it saves more tokens than this. Reading it separately takes one more
# call of the model, and splits its texts from those that they could share a batch with.
_LEAST_SAVED_TOKENS = 64


@dataclass(frozen=True)
class SharedPrefix:
    """Tokens that all texts below begin with, and that are read once.

    readings: those that share no longer prefix, by length; longer: prefixes that begin with this
    one.
    """

    tokens: tuple[int, ...] = ()
    readings: list[Reading] = field(default_factory=list)
    longer: list["SharedPrefix"] = field(default_factory=list)

    def walk(self) -> Iterator["SharedPrefix"]:
        """Yield this prefix, then all longer ones, those below one after another."""
        prefixes = [self]
        while prefixes:
            yield (prefix := prefixes.pop())
            prefixes += prefix.longer


def build(readings: Iterable[Reading], *, can_share: bool = True) -> SharedPrefix:
    """Return the root of the prefixes, without tokens; it has all readings if none can be shared.

    The logits within a prefix are not kept, so it ends before the last token of every context.
    """
    root = SharedPrefix()
    if not can_share:
        root.readings.extend(sorted(readings, key=lambda reading: len(reading.tokens)))
        return root
    groups = [(sorted(readings, key=lambda reading: reading.tokens), root)]
    while groups:
        group, prefix = groups.pop()
        if len(group) < 2:
            prefix.readings.extend(group)
            continue
        shared = common_length(group[0].tokens, group[-1].tokens)  # by all, as they are sorted
        length = min(shared, *(reading.first for reading in group))
        if (length - len(prefix.tokens)) * (len(group) - 1) > _LEAST_SAVED_TOKENS:
            longer = SharedPrefix(group[0].tokens[:length])
            prefix.longer.append(longer)
            prefix = longer
        prefix.readings.extend(each for each in group if each.first == length)
        others = [each for each in group if each.first > length]
        by_token = groupby(others, lambda each, at=length: each.tokens[at])  # type: ignore[misc]
        groups += [(list(each), prefix) for _, each in by_token]
    for prefix in root.walk():
        prefix.readings.sort(key=lambda reading: len(reading.tokens))
    return root
