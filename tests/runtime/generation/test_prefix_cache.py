"""Which kept generator a request continues, and which are dropped."""

import numpy as np
import pytest

from slmflow.runtime.generation.prefix_cache import PrefixCache, Reader, saved_tokens

SYSTEM = list(range(100, 164))
LONG = [*SYSTEM, *range(1000, 1400)]
SHORT = [*SYSTEM, *range(2000, 2032)]


def cache_of(*texts: list[int], max_bytes: int = 1_000_000) -> "PrefixCache[str]":
    """Keep a generator for each text, with room for 100 tokens more; each token takes a byte."""
    cache: PrefixCache[str] = PrefixCache(max_bytes)
    for number, text in enumerate(texts):
        keep(cache, f"generator {number}", text)
    return cache


def keep(cache: "PrefixCache[str]", generator: str, text: list[int]) -> None:
    size = len(text) + 100
    cache.reserve(size)
    cache.keep(Reader(generator, size, size, np.array(text, dtype=np.int32)))


def taken(cache: "PrefixCache[str]", text: list[int], more: int = 0) -> tuple[str, int] | None:
    found = cache.take(text, len(text) + more)
    return (found[0].generator, found[1]) if found else None


def test_conversation_continues_its_own_generator() -> None:
    cache = cache_of(LONG, SHORT)
    assert taken(cache, [*SHORT, *range(50)]) == ("generator 1", 96)
    assert taken(cache, [*LONG, *range(50)]) == ("generator 0", 464)
    assert cache.kept_bytes == 0


@pytest.mark.parametrize("length", range(64, 74))
def test_prefix_ends_at_whole_blocks(length: int) -> None:
    cache = cache_of(LONG[:length])
    assert taken(cache, LONG[:100]) == ("generator 0", length // 16 * 16)


@pytest.mark.parametrize(("tokens", "shared"), [(64, 48), (65, 48), (66, 64), (67, 64)])
def test_last_two_tokens_are_read_again(tokens: int, shared: int) -> None:
    assert taken(cache_of(LONG), LONG[:tokens]) is None, "most of it would be lost"
    assert taken(cache_of(LONG[:64]), LONG[:tokens]) == ("generator 0", shared)


def test_long_conversation_is_not_dropped_for_a_system_prompt() -> None:
    question = [*SYSTEM, *range(3000, 3020)]
    assert taken(cache_of(LONG), question) is None
    assert taken(cache_of(LONG, SHORT), question) == ("generator 1", 64)


def test_generator_without_room_is_dropped() -> None:
    cache = cache_of(LONG, SHORT)
    assert taken(cache, [*LONG, 1, 2], more=99) is None
    assert taken(cache, [*SHORT, 1, 2]) == ("generator 1", 96)
    assert cache.kept_bytes == 0


def test_least_recently_used_is_evicted() -> None:
    texts = [[start + n for n in range(100)] for start in (0, 1000, 2000)]
    cache = cache_of(*texts, max_bytes=600)
    found = cache.take([*texts[0], 1, 2], 102)
    assert found
    cache.keep(found[0])
    keep(cache, "new", [5000 + n for n in range(100)])
    assert cache.kept_bytes == 600
    assert taken(cache, [*texts[1], 1, 2]) is None
    assert taken(cache, [*texts[0], 1, 2]) == ("generator 0", 96)


def test_running_generators_count() -> None:
    cache = cache_of(LONG, SHORT, max_bytes=800)
    assert cache.kept_bytes == 564 + 196
    cache.reserve(300)
    assert cache.kept_bytes == 196
    cache.reserve(5000)
    assert cache.kept_bytes == 0
    cache.release(5300)
    keep(cache, "new", LONG)
    assert cache.kept_bytes == 564


def test_nothing_is_kept_without_room() -> None:
    assert cache_of(LONG, max_bytes=0).kept_bytes == 0
    assert cache_of(LONG, max_bytes=563).kept_bytes == 0
    assert cache_of(LONG[:63]).kept_bytes == 0, "too short to save time"


def test_waiting_texts_save_their_common_start() -> None:
    assert saved_tokens(SHORT, [*SYSTEM, *range(40)]) == 64
    assert saved_tokens(LONG, [*SYSTEM, *range(40)]) == 0
    assert saved_tokens(range(20), range(60)) == 0
