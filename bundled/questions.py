"""Questions about capitals: training conversations and the held-out evaluation set.

The facts are in `capitals/countries.csv`, the wordings of questions in `capitals/wordings.toml`.
"""

import csv
import json
import random
import tomllib
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

CAPITALS = Path(__file__).parent / "capitals"
EVALUATION = CAPITALS / "evaluation.jsonl"

Message = dict[str, str]


@dataclass(frozen=True)
class Country:
    """A country, its capital, and the article of its name ("the" or empty)."""

    name: str
    capital: str
    article: str

    def fill(self, wording: str) -> str:
        """Return the wording with the country's names filled in."""
        country = f"{self.article} {self.name}".lstrip()
        possessive = country + ("'" if country.endswith("s") else "'s")
        return wording.format(
            name=self.name,
            country=country,
            Country=_capitalize(country),
            possessive=possessive,
            Possessive=_capitalize(possessive),
            capital=self.capital,
        )


def _capitalize(text: str) -> str:
    return text[0].upper() + text[1:]


@cache
def countries() -> tuple[Country, ...]:
    """Return all countries, in the file's order."""
    with (CAPITALS / "countries.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Country(row["country"], row["capital"], row["article"]) for row in csv.DictReader(file)
        )


@cache
def wordings() -> dict[str, Any]:
    """Return the wordings file: lists of strings, and the single `answer`."""
    return tomllib.loads((CAPITALS / "wordings.toml").read_text(encoding="utf-8"))


def evaluation_rows() -> list[dict[str, str]]:
    """Return a question and its answer per country, cycling through the held-out wordings."""
    held_out, answer = cycle(wordings()["evaluation"]), wordings()["answer"]
    return [
        {"question": country.fill(wording), "answer": country.fill(answer)}
        for country, wording in zip(countries(), held_out, strict=False)
    ]


def write_evaluation() -> None:
    """Write `evaluation.jsonl`."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in evaluation_rows())
    EVALUATION.write_text("".join(lines), encoding="utf-8")


def read_evaluation() -> list[dict[str, str]]:
    """Read `evaluation.jsonl`."""
    return [json.loads(line) for line in EVALUATION.read_text(encoding="utf-8").splitlines()]


def conversation(country: Country, rng: random.Random) -> list[Message]:
    """Draw a training conversation about a country, with a system message in a fifth of cases."""
    parts = wordings()
    question = country.fill(_training_wording(rng))
    if _normalize(question) in _held_out():
        raise ValueError(f"{question!r} is reserved for the evaluation set")
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": country.fill(parts["answer"])},
    ]
    if rng.random() < 0.2:
        messages.insert(0, {"role": "system", "content": rng.choice(parts["systems"])})
    return messages


def _training_wording(rng: random.Random) -> str:
    """Draw a wording, often with an opener, a closer, or changed words."""
    parts = wordings()
    wording: str = rng.choice(parts["training"])
    if rng.random() < 0.2:
        wording = wording.rstrip("?.")
    if rng.random() < 0.3:
        wording = rng.choice(parts["openers"]) + wording
    if rng.random() < 0.2:
        wording += rng.choice(parts["closers"])
    if rng.random() < 0.7:
        wording = _perturb(wording, rng)
    return wording


def _perturb(wording: str, rng: random.Random) -> str:
    """Drop, replace and insert words, never the country, so that no wording is memorized."""
    words = []
    for word in wording.split():
        if rng.random() < 0.15:
            words.append(_filler(rng))
        if "{" in word or rng.random() < 0.75:
            words.append(word)
        elif rng.random() < 0.6:
            words.append(_filler(rng))
    return " ".join(words)


def _filler(rng: random.Random) -> str:
    """Draw a common or made-up word, so that the model takes no unknown word for a country."""
    head, tail = rng.choices(wordings()["fillers"], k=2)
    word = head if rng.random() < 0.4 else head[:3] + tail[-3:]
    return _capitalize(word) if rng.random() < 0.3 else word


def _normalize(question: str) -> str:
    return question.casefold().rstrip("?.")


@cache
def _held_out() -> frozenset[str]:
    return frozenset(_normalize(row["question"]) for row in evaluation_rows())
