"""Errors of the hub's client, as messages that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    OIDCError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from slmflow.errors import UserError
from slmflow.hub.repository import Repository, hub_url
from slmflow.hub.transfer import InterruptedTransfer
from slmflow.pipeline import store

_ERRORS = (
    *(OSError, httpx.HTTPError, httpx.InvalidURL),
    *(HFValidationError, OIDCError, InterruptedTransfer),
)


@contextmanager
def raise_user_errors(repository: Repository) -> Iterator[None]:
    """Convert exceptions of the hub's client to UserError."""
    try:
        yield
    except _ERRORS as error:
        raise UserError(_message(error, repository)) from error


def _message(error: Exception, repository: Repository) -> str:
    """Return what is wrong and what to do; the client's own text may contain credentials."""
    name, site = repository.name, hub_url()
    match error:
        case GatedRepoError() if not _is_authenticated(error):
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
        case HfHubHTTPError(response=httpx.Response(status_code=401 | 403)) if _is_authenticated(
            error
        ):
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
        case OIDCError():
            return (
                f"{name}: HF_OIDC_RESOURCE is set, but there is no OIDC token: set "
                "HF_OIDC_ID_TOKEN, or unset HF_OIDC_RESOURCE"
            )
        case OfflineModeIsEnabled():
            return (
                f"{name} at {repository.revision} is not in the store, and HF_HUB_OFFLINE disables "
                f"downloads: unset it, or {repository.offline_advice}"
            )
        case httpx.TooManyRedirects():
            return (
                f"{name}: {site} redirects in an endless loop: a proxy or mirror is at fault; "
                "check HF_ENDPOINT"
            )
        case HfHubHTTPError(response=httpx.Response(status_code=429)):
            return (
                f"{name}: {site} limits the rate of requests (status 429): wait a few minutes and "
                "run the same command again; HF_TOKEN raises the limit"
            )
        case HfHubHTTPError(response=httpx.Response(status_code=status)):
            return (
                f"{name}: {site} responds with status {status}: try again later; if that does not "
                "help, a proxy or mirror may be blocking the request"
            )
        case InterruptedTransfer():
            return (
                f"the download of {name} was interrupted: run the same command again to resume it"
            )
        case httpx.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return (
                f"{name}: the TLS certificate of {site} is not trusted: if a proxy or mirror has "
                "its own, set SSL_CERT_FILE to a PEM file with it"
            )
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return f"HF_ENDPOINT={site!r} is not a URL: give one such as https://HOST"
        case httpx.HTTPError():
            return (
                f"{name} at {repository.revision} is not in the store, and {site} cannot be "
                f"reached ({type(error).__name__}): check the connection, proxies and HF_ENDPOINT, "
                f"or {repository.offline_advice}"
            )
        case OSError():
            return (
                f"the store {store.home()} cannot be written ({error.strerror or error}): "
                "set SLMFLOW_HOME to a writable folder with enough space"
            )
        case _:
            raise error


def _is_authenticated(error: HfHubHTTPError) -> bool:
    """Return whether the rejected request had a token or password."""
    return "authorization" in error.response.request.headers
