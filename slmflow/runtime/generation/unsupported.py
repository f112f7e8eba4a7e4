"""Options of other servers that this model does not support, and values that ask for nothing."""

from typing import Any

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    # of OpenAI
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "stream": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": ("medium",),
    "web_search_options": (),  # an empty object asks for a search
    # of MLflow
    "custom_inputs": ({},),
    # of vLLM
    "add_generation_prompt": (True,),
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "continue_final_message": (False,),
    "early_stopping": (False,),
    "ignore_eos": (False,),
    "include_reasoning": (True,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "priority": (0,),
    "prompt_logprobs": (),  # 0 asks for those of the prompt itself
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_token_ids": ([],),
    "use_beam_search": (False,),
    # of llama.cpp
    "cache_prompt": (True,),
    "mirostat": (0,),
    "tfs_z": (1,),
    "typical_p": (1,),
}
"""Unsupported options, each with the values that have no effect."""


def is_neutral(name: str, value: Any) -> bool:
    """Return whether an unsupported option asks for nothing.

    Of an option that is not listed, an empty list or object does.
    """
    if value is None:
        return True
    neutral = UNSUPPORTED.get(name, ([], {}))
    # True equals 1, but is not the same number of completions.
    return any(isinstance(value, bool) == isinstance(n, bool) and value == n for n in neutral)
