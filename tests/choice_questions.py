"""Questions of capitals with four choices, and the continent as their subject."""

import json
from pathlib import Path

from steps.common import config as configs
from steps.common import rows
from steps.common.rows import Row

_CAPITALS = {
    "Europe": {"France": "Paris", "Italy": "Rome", "Norway": "Oslo", "Spain": "Madrid"},
    "Asia": {"Japan": "Tokyo", "Nepal": "Kathmandu", "Iraq": "Baghdad", "Iran": "Tehran"},
    "Africa": {"Egypt": "Cairo", "Ghana": "Accra", "Kenya": "Nairobi"},
    "South America": {"Peru": "Lima", "Chile": "Santiago"},
}


def write(folder: Path) -> Path:
    """Write a JSONL file: the other choices are the next capitals, the right one in any place."""
    cities = [city for capitals in _CAPITALS.values() for city in capitals.values()]
    lines = []
    for continent, capitals in _CAPITALS.items():
        for country, city in capitals.items():
            at = cities.index(city)
            choices = [cities[(at + step) % len(cities)] for step in (1, 2, 3)]
            choices.insert(at % 4, city)
            question = f"What is the capital of {country}?"
            row = {"question": question, "choices": choices, "answer": city, "subject": continent}
            lines.append(json.dumps(row))
    file = folder / "capitals.jsonl"
    file.write_text("\n".join(lines))
    return file


def read(folder: Path) -> list[Row]:
    """Return them as the steps read them."""
    return rows.read(configs.load([f"evaluation.data='{write(folder)}'"]))
