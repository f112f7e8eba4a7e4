"""The Hugging Face hub: the files of a model at one commit, each proven to be the commit's.

The one module that knows the hub's client. Where the hub is and who asks are the client's own
settings, from the environment: HF_ENDPOINT, HF_TOKEN, proxies.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
from huggingface_hub.utils.sha import git_hash

from steps.common import console, store
from steps.common.errors import UserError
from steps.fetch import files

# Only plain HTTP goes on with what an earlier process left: the client's other two ways, xet and
# hf_transfer, begin a file anew.
constants.HF_HUB_DISABLE_XET = True
constants.HF_HUB_ENABLE_HF_TRANSFER = False

# A cut loses the chunk under way; the client's own 10 MB are minutes on a slow line.
constants.DOWNLOAD_CHUNK_SIZE = 256 * 1024


def download(model_id: str, revision: str, target: Path) -> None:
    """Fill `target` with the files of a model at a commit, with a progress bar for each.

    What has arrived is kept in `downloads/` of the store until the model is whole: a later call,
    of whatever process, goes on from there. Raises UserError, with nothing in `target`.
    """
    partial = store.home() / "downloads" / f"{model_id.replace('/', '--')}--{revision}"
    with _explained(model_id, revision):
        listed = _list(model_id, revision)
        _require_room(listed, partial)
        # One file after another: an interrupt then ends the one transfer there is, at once.
        for file in listed:
            _drop_overlong(file, partial)
            hf_hub_download(model_id, file.rfilename, revision=revision, local_dir=partial)
            _prove(file, partial, model_id)
        for file in listed:
            (partial / file.rfilename).rename(target / file.rfilename)
        shutil.rmtree(partial)


def _list(model_id: str, revision: str) -> list[RepoSibling]:
    """Return the files of the model that are taken, with the sizes and digests of the commit."""
    info = HfApi().model_info(
        model_id, revision=revision, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
    )
    if info.sha != revision:  # a branch may bear the name of a commit
        raise UserError(_no_commit(model_id, revision))
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    listed = [siblings[name] for name in files.choose(siblings.keys(), f"model.id={model_id!r}")]
    console.say(f"{model_id}: {len(listed)} files, {_bytes(listed) / 1e6:,.1f} MB, from {_site()}")
    return listed


def _require_room(listed: Sequence[RepoSibling], partial: Path) -> None:
    arrived = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
    missing, free = _bytes(listed) - arrived, shutil.disk_usage(store.home()).free
    if missing > free:
        raise UserError(
            f"{missing / 1e6:,.1f} MB are still to come, but {store.home()} has room for "
            f"{free / 1e6:,.1f} MB: set SLMFLOW_HOME to a folder with more"
        )


def _drop_overlong(file: RepoSibling, partial: Path) -> None:
    """Drop what came of a file if it is too much: the client would ask for what follows its end."""
    for begun in partial.rglob(f"*.{_digest_listed(file)}.incomplete"):
        if begun.stat().st_size > (file.size or 0):
            begun.unlink()


def _prove(file: RepoSibling, partial: Path, model_id: str) -> None:
    """Raise UserError, and drop the file, unless its content has the digest the hub lists."""
    arrived = partial / file.rfilename
    digest = store.sha256(arrived) if file.lfs else git_hash(arrived.read_bytes())
    if digest != _digest_listed(file):
        arrived.unlink()
        raise UserError(
            f"{file.rfilename} of model.id={model_id!r} came with the digest {digest}, but "
            f"{_site()} lists {_digest_listed(file)}: it was thrown away. Run the same command "
            "again; if that does not help, a proxy or mirror in between alters the file"
        )


def _digest_listed(file: RepoSibling) -> str | None:
    """Return the sha256 of a large file, the git object id of any other."""
    return file.lfs.sha256 if file.lfs else file.blob_id


def _bytes(listed: Sequence[RepoSibling]) -> int:
    return sum(file.size or 0 for file in listed)


@contextmanager
def _explained(model_id: str, revision: str) -> Iterator[None]:
    """Turn what the client raises into UserError."""
    try:
        yield
    except (OSError, HFValidationError, UnicodeEncodeError) as error:
        # The client says "not here" where it could not ask; the cause says why.
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
        raise UserError(_explanation(cause, model_id, revision)) from error


def _explanation(error: BaseException | None, model_id: str, revision: str) -> str:
    """Return what is wrong and what to do, in our words: the client's may quote credentials."""
    model, site = f"model.id={model_id!r}", _site()
    match error:
        case GatedRepoError() if get_token() is None:
            return (
                f"{model} is gated, and there is no token: ask for access at {site}/{model_id}, "
                f"then set HF_TOKEN to a token of that account ({site}/settings/tokens)"
            )
        case GatedRepoError():
            return (
                f"{model} is gated, and the token (HF_TOKEN, or the login of the hub's client) has "
                f"no right to it: ask for access at {site}/{model_id} with the token's account; "
                "a fine-grained token also needs the permission to read gated repositories"
            )
        case requests.HTTPError(response=requests.Response(status_code=401 | 403)) if get_token():
            return (
                f"{model}: {site} does not accept the token (HF_TOKEN, or the login of the hub's "
                f"client): set HF_TOKEN to one that is valid ({site}/settings/tokens), or to none"
            )
        case RepositoryNotFoundError():
            return (
                f"{model}: {site} has no such model, or it is private: check the name; "
                "for a private model set HF_TOKEN to a token that may read it"
            )
        case RevisionNotFoundError():
            return _no_commit(model_id, revision)
        case HFValidationError():
            return f"{model} is not a hub id: give owner/name as its page shows it"
        case UnicodeEncodeError():
            return "HF_TOKEN has a character that no token has: copy the token again"
        case OfflineModeIsEnabled():
            return (
                f"{model} at {revision} is not in the store, and HF_HUB_OFFLINE forbids to ask "
                "the hub: unset it, or take a model that is here (model=tiny_phi3)"
            )
        case requests.HTTPError(response=requests.Response(status_code=status)):
            return (
                f"{model}: {site} answers with status {status}: try again later; if that does not "
                "help, a proxy or mirror in between may not let it pass"
            )
        case requests.exceptions.ChunkedEncodingError():
            return (
                f"the download of {model} was cut off: run the same command again, "
                "and it goes on where it stopped"
            )
        case requests.RequestException():
            return (
                f"{model} at {revision} is not in the store, and {site} cannot be reached "
                f"({type(error).__name__}): check the connection, proxies and HF_ENDPOINT, "
                "or take a model that is here (model=tiny_phi3)"
            )
        case OSError(strerror=str(reason)):
            return (
                f"the store {store.home()} cannot be written ({reason}): "
                "set SLMFLOW_HOME to a folder with room that you may write to"
            )
        case _:
            return (
                f"{model}: what {site} sends is not what it lists. Run the same command again; "
                "if that does not help, a proxy or mirror in between is at fault"
            )


def _no_commit(model_id: str, revision: str) -> str:
    return (
        f"model.revision={revision!r}: model.id={model_id!r} has no such commit: "
        f"copy one from {_site()}/{model_id}/commits/main"
    )


def _site() -> str:
    """Return the hub's address without the user and password that HF_ENDPOINT may hold."""
    return re.sub(r"//[^/]*@", "//", constants.ENDPOINT)
