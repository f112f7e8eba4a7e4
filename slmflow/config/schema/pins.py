"""Pinned references to models elsewhere: hub ids with commits, and URIs in MLflow."""

import re
from collections.abc import Iterator

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MODEL_URI = re.compile(r"(models|runs):/[^\s?#]{1,500}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def pin_problems(key: str, hub_id: str | None, revision: str | None) -> Iterator[str]:
    """Yield one message for an invalid hub id and one for a revision that is not a commit."""
    yield from id_problems(f"{key}.id", hub_id)
    yield from revision_problems(f"{key}.revision", revision)


def id_problems(key: str, hub_id: str | None) -> Iterator[str]:
    """Yield one message for an invalid hub id."""
    if not _HUB_ID.fullmatch(hub_id or ""):
        yield f"{key}={hub_id!r} is not a hub id: give owner/name"


def revision_problems(key: str, revision: str | None) -> Iterator[str]:
    """Yield one message for a revision that is not a commit."""
    if not _COMMIT.fullmatch(revision or ""):
        yield (
            f"{key}={revision!r} is not a pinned revision: give the commit's "
            "40 hexadecimal digits (the hub page's 'History' shows them), not a branch"
        )


def is_model_uri(text: str) -> bool:
    """Return whether a text begins as the URI of a model in MLflow does."""
    return text.startswith(("models:/", "runs:/"))


def uri_problems(key: str, uri: str | None) -> Iterator[str]:
    """Yield a message unless a URI has the form of one of a logged or registered model."""
    if not _MODEL_URI.fullmatch(uri or ""):
        yield (
            f"{key}={uri!r} is not the URI of a model in MLflow: give models:/NAME/VERSION, "
            "models:/NAME@ALIAS, models:/m-ID or runs:/RUN_ID/PATH; a folder is "
            "model=local model.path=..."
        )
