"""Download files of a hub repository at one commit and verify their digests.

The hub's client reads endpoint, token and proxies from the environment (HF_ENDPOINT, HF_TOKEN).
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils._http import get_session
from huggingface_hub.utils.sha import git_hash
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.hub.errors import raise_user_errors
from slmflow.hub.repository import Repository, hub_url
from slmflow.pipeline import store

# Retries after 0, 2 and 4 seconds, or after the Retry-After of the hub, at most a minute. A refused
# connection is not retried: the hub is most likely unreachable, which the user should know at once.
_RETRIES = Retry(
    total=3,
    connect=0,
    status_forcelist=(429, 500, 502, 503, 504),
    backoff_factor=1,
    retry_after_max=60,
    raise_on_status=False,
)

# An interruption loses the current chunk; the client's default of 10 MB takes minutes on a slow
# connection.
_CHUNK_BYTES = 256 * 1024

FileSelector = Callable[[Mapping[str, int]], list[str]]
"""Select the files to download: from sizes in bytes by path to a list of paths.

Raises UserError if the repository lacks a required file.
"""


def download(repository: Repository, select_files: FileSelector, target: Path) -> None:
    """Download the selected files to `target`, with a progress bar for each.

    Partial downloads stay in `downloads/` of the store until all files are complete, so that a
    later call, in any process, resumes them. Raises UserError and leaves `target` empty.
    """
    _configure_client()
    with raise_user_errors(repository):
        files = _list_files(repository, select_files)
        partial = _partial_folder(repository, files)
        downloaded = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
        missing = _total_bytes(files) - downloaded
        store.require_free_space(missing, f"the download of {repository.name}", store.workspace())
        # One file after another, so that an interrupt has only one transfer to stop.
        for file in files:
            _remove_oversized_partial(file, partial)
            hf_hub_download(
                repository.id,
                file.rfilename,
                repo_type=repository.kind,
                revision=repository.revision,
                local_dir=partial,
            )
            _verify_digest(file, partial, repository)
        for file in files:
            (target / file.rfilename).parent.mkdir(parents=True, exist_ok=True)
            (partial / file.rfilename).rename(target / file.rfilename)
        shutil.rmtree(partial)


def _configure_client() -> None:
    # Only plain HTTP resumes the download of an earlier process; xet and hf_transfer start over.
    constants.HF_HUB_DISABLE_XET = True
    constants.HF_HUB_ENABLE_HF_TRANSFER = False
    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK_BYTES
    for adapter in get_session().adapters.values():
        if isinstance(adapter, HTTPAdapter):
            adapter.max_retries = _RETRIES


def _list_files(repository: Repository, select_files: FileSelector) -> list[RepoSibling]:
    """Return the selected files with their sizes and digests at the commit."""
    info = HfApi().repo_info(
        repository.id,
        repo_type=repository.kind,
        revision=repository.revision,
        files_metadata=True,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
    )
    if info.sha != repository.revision:  # a branch can have a name that looks like a commit
        raise UserError(repository.missing_commit)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    sizes = {path: sibling.size or 0 for path, sibling in siblings.items()}
    files = [siblings[path] for path in select_files(sizes)]
    size_mb = _total_bytes(files) / 1e6
    messages.info(f"{repository.id}: {len(files)} files, {size_mb:,.1f} MB, from {hub_url()}")
    return files


def _partial_folder(repository: Repository, files: Sequence[RepoSibling]) -> Path:
    """Return the folder for partial downloads, unique to this selection of files and commit."""
    paths = "\n".join(file.rfilename for file in files)
    digest = hashlib.sha256(paths.encode()).hexdigest()[:16]
    repository_id = repository.id.replace("/", "--")
    name = f"{repository.kind}--{repository_id}--{repository.revision}--{digest}"
    return store.workspace() / "downloads" / name


def _remove_oversized_partial(file: RepoSibling, partial: Path) -> None:
    """Remove a partial file larger than the listed size; the client would resume past its end."""
    for path in partial.rglob(f"*.{_listed_digest(file)}.incomplete"):
        if path.stat().st_size > (file.size or 0):
            path.unlink()


def _verify_digest(file: RepoSibling, partial: Path, repository: Repository) -> None:
    """Compare a downloaded file with the listed digest. On a mismatch, delete it; raise UserError.

    Large files have a sha256, all others a git object id.
    """
    path = partial / file.rfilename
    digest = store.sha256(path) if file.lfs else git_hash(path.read_bytes())
    if digest != _listed_digest(file):
        path.unlink()
        raise UserError(
            f"{file.rfilename} of {repository.name} has the digest {digest}, but {hub_url()} lists "
            f"{_listed_digest(file)}: the file was discarded. Run the same command again; if that "
            "does not help, a proxy or mirror alters the file"
        )


def _listed_digest(file: RepoSibling) -> str | None:
    return file.lfs.sha256 if file.lfs else file.blob_id


def _total_bytes(files: Sequence[RepoSibling]) -> int:
    return sum(file.size or 0 for file in files)
