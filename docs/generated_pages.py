"""Pages of the site that are generated from code: an mkdocs hook."""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from docs import model_types_page  # noqa: E402
from slmflow.config.reference import group_entries, key_entries  # noqa: E402
from slmflow.metrics.model_metrics import METRIC_COLUMNS, describe_columns  # noqa: E402


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of the folder."""
    pages = {
        "configuration.md": _configuration(),
        "metrics.md": _metrics(),
        "model_types.md": model_types_page.build_page(),
        "changelog.md": (_ROOT / "CHANGELOG.md").read_text(),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def _configuration() -> str:
    groups = [
        [f"`{group.name}`", f"`{group.default}`", _codes(group.choices), group.doc]
        for group in group_entries()
    ]
    sections: dict[str, list[list[str]]] = {}
    for entry in key_entries():
        kind = "" if entry.kind.value == "value" else f", {entry.kind.value}"
        choices = f": {_codes(entry.choices)}" if entry.choices else ""
        default = "" if entry.default is None else f"`{entry.default}`"
        row = [f"`{entry.name}`", f"{entry.type}{kind}{choices}", default, entry.doc]
        sections.setdefault(entry.name.partition(".")[0], []).append(row)
    parts = [
        "# Configuration",
        "Generated from the typed schema in `slmflow/config/schema`. Set any key with\n"
        "`-P key=value`. Text, paths and model URIs are taken literally; lists are in brackets.",
        "## Groups",
        "A group selects a file of `conf/`.",
        _table(["group", "default", "choices", "selects"], groups),
    ]
    for name, rows in sections.items():
        parts += [f"## {name}", _table(["key", "type", "default", "meaning"], rows)]
    return "\n\n".join(parts) + "\n"


def _metrics() -> str:
    rows = []
    for column in describe_columns():
        suffixes = METRIC_COLUMNS[column.name].suffixes if column.name in METRIC_COLUMNS else ()
        better = {None: "", True: "higher", False: "lower"}[column.higher_is_better]
        rows.append([f"`{column.name}`", column.meaning, column.unit, better, _codes(suffixes)])
    return "\n\n".join(
        [
            "# Metrics",
            "The columns of `comparison.json`, generated from\n"
            "`slmflow/metrics/model_metrics.py`. `_low` and `_high` are the bounds of a 95 %\n"
            "confidence interval over the rows, `_p` is the p-value of a paired test against the\n"
            "transformers flavor. `_difference` is the difference from the transformers flavor\n"
            "over the same rows, `_ratio` is one value divided by the other. A value that was not\n"
            "measured is null. Each column is also a metric of the run, `FLAVOR.COLUMN`, and can\n"
            "have a threshold in `registry.gate`.",
            _table(["column", "meaning", "unit", "better", "suffixes"], rows),
        ]
    )


def _codes(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines
    )
