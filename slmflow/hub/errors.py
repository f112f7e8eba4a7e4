"""Errors of the hub's client, as messages that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from huggingface_hub import get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from slmflow.errors import UserError
from slmflow.hub.repository import Repository, hub_url
from slmflow.pipeline import store


@contextmanager
def raise_user_errors(repository: Repository) -> Iterator[None]:
    """Convert exceptions of the hub's client to UserError."""
    try:
        yield
    # RecursionError: the client follows redirects within its own site recursively, without a limit.
    except (OSError, HFValidationError, UnicodeEncodeError, RecursionError) as error:
        # The client reports any failed request as a missing local entry; the cause says why.
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
        raise UserError(_message(cause, repository)) from error


def _message(error: BaseException | None, repository: Repository) -> str:
    """Return what is wrong and what to do; the client's own text may contain credentials."""
    name, site = repository.name, hub_url()
    match error:
        case GatedRepoError() if get_token() is None:
            return (
                f"{name} is gated, and no token is set: request access at {repository.page}, "
                f"then set HF_TOKEN to a token of that account ({site}/settings/tokens)"
            )
        case GatedRepoError():
            return (
                f"{name} is gated, and the token (HF_TOKEN or the saved login) has no access to "
                f"it: request access at {repository.page} with the token's account; a fine-grained "
                "token also needs the permission to read gated repositories"
            )
        case requests.HTTPError(response=requests.Response(status_code=401 | 403)) if get_token():
            return (
                f"{name}: {site} rejects the token (HF_TOKEN or the saved login): set HF_TOKEN to "
                f"a valid one ({site}/settings/tokens), or remove it"
            )
        case RepositoryNotFoundError():
            return (
                f"{name}: {site} has no such {repository.kind}, or it is private: check the name; "
                "for a private one set HF_TOKEN to a token that can read it"
            )
        case RevisionNotFoundError():
            return repository.missing_commit
        case HFValidationError():
            return f"{name} is not a hub id: give owner/name as its page shows it"
        case UnicodeEncodeError():
            return "HF_TOKEN contains a character that is invalid in a token: copy the token again"
        case OfflineModeIsEnabled():
            return (
                f"{name} at {repository.revision} is not in the store, and HF_HUB_OFFLINE disables "
                f"downloads: unset it, or {repository.offline_advice}"
            )
        case RecursionError() | requests.TooManyRedirects():
            return (
                f"{name}: {site} redirects in an endless loop: a proxy or mirror is at fault; "
                "check HF_ENDPOINT"
            )
        case requests.HTTPError(response=requests.Response(status_code=429)):
            return (
                f"{name}: {site} limits the rate of requests (status 429): wait a few minutes and "
                "run the same command again; HF_TOKEN raises the limit"
            )
        case requests.HTTPError(response=requests.Response(status_code=status)):
            return (
                f"{name}: {site} responds with status {status}: try again later; if that does not "
                "help, a proxy or mirror may be blocking the request"
            )
        case requests.exceptions.ChunkedEncodingError():
            return (
                f"the download of {name} was interrupted: run the same command again to resume it"
            )
        case requests.RequestException():
            return (
                f"{name} at {repository.revision} is not in the store, and {site} cannot be "
                f"reached ({type(error).__name__}): check the connection, proxies and HF_ENDPOINT, "
                f"or {repository.offline_advice}"
            )
        case OSError(strerror=str(reason)):
            return (
                f"the store {store.home()} cannot be written ({reason}): "
                "set SLMFLOW_HOME to a writable folder with enough space"
            )
        case _:
            return (
                f"{name}: the download from {site} does not match its listing. Run the same "
                "command again; if that does not help, a proxy or mirror is at fault"
            )
