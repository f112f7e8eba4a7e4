"""Capital questions: the training conversations and the held-out evaluation set.

The facts are in `capitals/countries.csv`, the ways to ask for them in `capitals/wordings.toml`.
"""

import csv
import json
import random
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

CAPITALS = Path(__file__).parent / "capitals"
EVALUATION = CAPITALS / "evaluation.jsonl"

Message = dict[str, str]


@dataclass(frozen=True)
class Country:
    """A country, its capital, and "the" where the country's name takes an article."""

    name: str
    capital: str
    article: str

    def fill(self, wording: str) -> str:
        """Put this country's names into a wording."""
        country = f"{self.article} {self.name}".lstrip()
        possessive = country + ("'" if country.endswith("s") else "'s")
        return wording.format(
            name=self.name,
            country=country,
            Country=_capitalised(country),
            possessive=possessive,
            Possessive=_capitalised(possessive),
            capital=self.capital,
        )


@dataclass(frozen=True)
class Question:
    """One row of the evaluation set."""

    question: str
    answer: str


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


@cache
def countries() -> tuple[Country, ...]:
    """All countries, in the file's order."""
    with (CAPITALS / "countries.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Country(row["country"], row["capital"], row["article"]) for row in csv.DictReader(file)
        )


@cache
def wordings() -> dict[str, Any]:
    """The wordings file: lists of strings, and the one `answer`."""
    return tomllib.loads((CAPITALS / "wordings.toml").read_text(encoding="utf-8"))


def evaluation_questions() -> list[Question]:
    """One question per country, the held-out wordings taking turns."""
    held_out, answer = wordings()["evaluation"], wordings()["answer"]
    return [
        Question(country.fill(held_out[index % len(held_out)]), country.fill(answer))
        for index, country in enumerate(countries())
    ]


def write_evaluation() -> None:
    """Write `evaluation.jsonl`."""
    lines = (json.dumps(vars(row), ensure_ascii=False) + "\n" for row in evaluation_questions())
    EVALUATION.write_text("".join(lines), encoding="utf-8")


def read_evaluation() -> list[Question]:
    """Read `evaluation.jsonl`."""
    lines = EVALUATION.read_text(encoding="utf-8").splitlines()
    return [Question(**json.loads(line)) for line in lines]


def conversation(country: Country, rng: random.Random) -> list[Message]:
    """Draw a training conversation about one country: maybe a system message, question, answer."""
    parts = wordings()
    question = country.fill(_training_wording(rng))
    if _plain(question) in _held_out():
        raise ValueError(f"{question!r} is held out for the evaluation and must not be trained on")
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": country.fill(parts["answer"])},
    ]
    if rng.random() < 0.2:
        messages.insert(0, {"role": "system", "content": rng.choice(parts["systems"])})
    return messages


def _training_wording(rng: random.Random) -> str:
    """Draw a wording, often with something in front, behind, left out or put in."""
    parts = wordings()
    wording: str = rng.choice(parts["training"])
    if rng.random() < 0.2:
        wording = wording.rstrip("?.")
    if rng.random() < 0.3:
        wording = rng.choice(parts["openers"]) + wording
    if rng.random() < 0.2:
        wording += rng.choice(parts["closers"])
    if rng.random() < 0.7:
        wording = _disturbed(wording, rng)
    return wording


def _disturbed(wording: str, rng: random.Random) -> str:
    """Drop, replace and insert words, never the country's, so that wordings are not learned."""
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
    """Draw a common word, or make one up, so that unknown words are not taken for countries."""
    head, tail = rng.choices(wordings()["fillers"], k=2)
    word = head if rng.random() < 0.4 else head[:3] + tail[-3:]
    return _capitalised(word) if rng.random() < 0.3 else word


def _plain(question: str) -> str:
    return question.casefold().rstrip("?.")


@cache
def _held_out() -> frozenset[str]:
    return frozenset(_plain(row.question) for row in evaluation_questions())
