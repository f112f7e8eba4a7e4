"""The Hugging Face hub: files of a repository at one commit, each proven to be the commit's.

The one module that knows the hub's client. Where the hub is and who asks are the client's own
settings, from the environment: HF_ENDPOINT, HF_TOKEN, proxies.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import requests
from huggingface_hub import HfApi, constants, get_token, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils._http import get_session
from huggingface_hub.utils.sha import git_hash
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.pipeline import store

# Only plain HTTP goes on with what an earlier process left: the client's other two ways, xet and
# hf_transfer, begin a file anew.
constants.HF_HUB_DISABLE_XET = True
constants.HF_HUB_ENABLE_HF_TRANSFER = False

# A cut loses the chunk under way; the client's own 10 MB are minutes on a slow line.
constants.DOWNLOAD_CHUNK_SIZE = 256 * 1024

# What passes is waited for: 0, 2 and 4 seconds, or as long as the hub asks for, at most a minute.
# Who does not listen at all most likely never does: that is said at once.
_RETRIES = Retry(
    total=3,
    connect=0,
    status_forcelist=(429, 500, 502, 503, 504),
    backoff_factor=1,
    retry_after_max=60,
    raise_on_status=False,
)


Choose = Callable[[Mapping[str, int]], list[str]]
"""From the names of all files, with their bytes, to the names of those that are taken.

Raises UserError where they will not do.
"""


@dataclass(frozen=True)
class Repository:
    """A model or a dataset at one commit.

    `key` is the section of the config that names it; `instead` says what to do without the hub.
    """

    kind: Literal["model", "dataset"]
    id: str
    revision: str
    key: str
    instead: str

    @property
    def name(self) -> str:
        """How messages name it, e.g. `model.id='owner/name'`."""
        return f"{self.key}.id={self.id!r}"

    @property
    def page(self) -> str:
        """The address people read about it at."""
        return f"{_site()}/{'datasets/' if self.kind == 'dataset' else ''}{self.id}"


def download(repository: Repository, choose: Choose, target: Path) -> None:
    """Fill `target` with the chosen files of a commit, with a progress bar for each.

    What has arrived is kept in `downloads/` of the store until all is whole: a later call, of
    whatever process, goes on from there. Raises UserError, with nothing in `target`.
    """
    for adapter in get_session().adapters.values():
        if isinstance(adapter, HTTPAdapter):
            adapter.max_retries = _RETRIES
    with _explained(repository):
        listed = _list(repository, choose)
        partial = _partial(repository, listed)
        _require_room(listed, partial)
        # One file after another: an interrupt then ends the one transfer there is, at once.
        for file in listed:
            _drop_overlong(file, partial)
            hf_hub_download(
                repository.id,
                file.rfilename,
                repo_type=repository.kind,
                revision=repository.revision,
                local_dir=partial,
            )
            _prove(file, partial, repository)
        for file in listed:
            (target / file.rfilename).parent.mkdir(parents=True, exist_ok=True)
            (partial / file.rfilename).rename(target / file.rfilename)
        shutil.rmtree(partial)


def _list(repository: Repository, choose: Choose) -> list[RepoSibling]:
    """Return the files that are taken, with the sizes and digests of the commit."""
    info = HfApi().repo_info(
        repository.id,
        repo_type=repository.kind,
        revision=repository.revision,
        files_metadata=True,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
    )
    if info.sha != repository.revision:  # a branch may bear the name of a commit
        raise UserError(_no_commit(repository))
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    sizes = {name: sibling.size or 0 for name, sibling in siblings.items()}
    listed = [siblings[name] for name in choose(sizes)]
    size_mb = _bytes(listed) / 1e6
    messages.say(f"{repository.id}: {len(listed)} files, {size_mb:,.1f} MB, from {_site()}")
    return listed


def _partial(repository: Repository, listed: Sequence[RepoSibling]) -> Path:
    """Return the folder these files arrive in: no other files of the commit use it."""
    names = "\n".join(file.rfilename for file in listed)
    kind, owner_name = repository.kind, repository.id.replace("/", "--")
    digest = hashlib.sha256(names.encode()).hexdigest()[:16]
    return (
        store.workbench() / "downloads" / f"{kind}--{owner_name}--{repository.revision}--{digest}"
    )


def _require_room(listed: Sequence[RepoSibling], partial: Path) -> None:
    arrived = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
    missing, free = _bytes(listed) - arrived, shutil.disk_usage(store.workbench()).free
    if missing > free:
        raise UserError(
            f"{missing / 1e6:,.1f} MB are still to come, but {store.workbench()} has room for "
            f"{free / 1e6:,.1f} MB: set SLMFLOW_HOME to a folder with more"
        )


def _drop_overlong(file: RepoSibling, partial: Path) -> None:
    """Drop what came of a file if it is too much: the client would ask for what follows its end."""
    for begun in partial.rglob(f"*.{_digest_listed(file)}.incomplete"):
        if begun.stat().st_size > (file.size or 0):
            begun.unlink()


def _prove(file: RepoSibling, partial: Path, repository: Repository) -> None:
    """Raise UserError, and drop the file, unless its content has the digest the hub lists."""
    arrived = partial / file.rfilename
    digest = store.sha256(arrived) if file.lfs else git_hash(arrived.read_bytes())
    if digest != _digest_listed(file):
        arrived.unlink()
        raise UserError(
            f"{file.rfilename} of {repository.name} came with the digest {digest}, but "
            f"{_site()} lists {_digest_listed(file)}: it was thrown away. Run the same command "
            "again; if that does not help, a proxy or mirror in between alters the file"
        )


def _digest_listed(file: RepoSibling) -> str | None:
    """Return the sha256 of a large file, the git object id of any other."""
    return file.lfs.sha256 if file.lfs else file.blob_id


def _bytes(listed: Sequence[RepoSibling]) -> int:
    return sum(file.size or 0 for file in listed)


@contextmanager
def _explained(repository: Repository) -> Iterator[None]:
    """Turn what the client raises into UserError."""
    try:
        yield
    # The client follows a redirect to its own site by a call of itself, without a bound.
    except (OSError, HFValidationError, UnicodeEncodeError, RecursionError) as error:
        # The client says "not here" where it could not ask; the cause says why.
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
        raise UserError(_explanation(cause, repository)) from error


def _explanation(error: BaseException | None, repository: Repository) -> str:
    """Return what is wrong and what to do, in our words: the client's may quote credentials."""
    name, site = repository.name, _site()
    match error:
        case GatedRepoError() if get_token() is None:
            return (
                f"{name} is gated, and there is no token: ask for access at {repository.page}, "
                f"then set HF_TOKEN to a token of that account ({site}/settings/tokens)"
            )
        case GatedRepoError():
            return (
                f"{name} is gated, and the token (HF_TOKEN, or the login of the hub's client) has "
                f"no right to it: ask for access at {repository.page} with the token's account; "
                "a fine-grained token also needs the permission to read gated repositories"
            )
        case requests.HTTPError(response=requests.Response(status_code=401 | 403)) if get_token():
            return (
                f"{name}: {site} does not accept the token (HF_TOKEN, or the login of the hub's "
                f"client): set HF_TOKEN to one that is valid ({site}/settings/tokens), or to none"
            )
        case RepositoryNotFoundError():
            return (
                f"{name}: {site} has no such {repository.kind}, or it is private: check the name; "
                "for a private one set HF_TOKEN to a token that may read it"
            )
        case RevisionNotFoundError():
            return _no_commit(repository)
        case HFValidationError():
            return f"{name} is not a hub id: give owner/name as its page shows it"
        case UnicodeEncodeError():
            return "HF_TOKEN has a character that no token has: copy the token again"
        case OfflineModeIsEnabled():
            return (
                f"{name} at {repository.revision} is not in the store, and HF_HUB_OFFLINE forbids "
                f"to ask the hub: unset it, or {repository.instead}"
            )
        case RecursionError() | requests.TooManyRedirects():
            return (
                f"{name}: {site} sends from one address to the next without an end: a proxy or "
                "mirror in between is at fault; see that HF_ENDPOINT is right"
            )
        case requests.HTTPError(response=requests.Response(status_code=429)):
            return (
                f"{name}: {site} answers no more for now (status 429, too many requests): wait "
                "some minutes and run the same command again; with HF_TOKEN more is allowed"
            )
        case requests.HTTPError(response=requests.Response(status_code=status)):
            return (
                f"{name}: {site} answers with status {status}: try again later; if that does not "
                "help, a proxy or mirror in between may not let it pass"
            )
        case requests.exceptions.ChunkedEncodingError():
            return (
                f"the download of {name} was cut off: run the same command again, "
                "and it goes on where it stopped"
            )
        case requests.RequestException():
            return (
                f"{name} at {repository.revision} is not in the store, and {site} cannot be "
                f"reached ({type(error).__name__}): check the connection, proxies and HF_ENDPOINT, "
                f"or {repository.instead}"
            )
        case OSError(strerror=str(reason)):
            return (
                f"the store {store.home()} cannot be written ({reason}): "
                "set SLMFLOW_HOME to a folder with room that you may write to"
            )
        case _:
            return (
                f"{name}: what {site} sends is not what it lists. Run the same command again; "
                "if that does not help, a proxy or mirror in between is at fault"
            )


def _no_commit(repository: Repository) -> str:
    return (
        f"{repository.key}.revision={repository.revision!r}: {repository.name} has no such commit: "
        f"copy one from {repository.page}/commits/main"
    )


def _site() -> str:
    """Return the hub's address without the user and password that HF_ENDPOINT may hold."""
    return re.sub(r"//[^/]*@", "//", constants.ENDPOINT)
