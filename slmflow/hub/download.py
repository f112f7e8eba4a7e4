"""Download files of a hub repository at one commit and verify their digests.

The hub's client reads endpoint, token and proxies from the environment (HF_ENDPOINT, HF_TOKEN).
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils.sha import git_hash

from slmflow.console import messages, progress_bars
from slmflow.errors import UserError
from slmflow.hub import client
from slmflow.hub.errors import raise_user_errors
from slmflow.hub.repository import Repository, hub_url
from slmflow.hub.transfer import transfer
from slmflow.pipeline import digests, store

FileSelector = Callable[[Mapping[str, int]], list[str]]
"""Select the files to download: from sizes in bytes by path to a list of paths.

Raises UserError if the repository lacks a required file.
"""


def download(repository: Repository, select_files: FileSelector, target: Path) -> None:
    """Download the selected files to `target`, with a progress bar.

    Partial downloads stay in `downloads/` of the store until all files are complete, so that a
    later call, in any process, resumes them. Raises UserError and leaves `target` empty.
    """
    client.configure()
    with raise_user_errors(repository):
        headers = client.request_headers()
        files = _list_files(repository, select_files)
        partial = _partial_folder(repository, files)
        with store.lock(f"downloads-{partial.name}"):
            _complete_files(files, partial, repository, headers)
            for file in files:
                (target / file.rfilename).parent.mkdir(parents=True, exist_ok=True)
                (partial / file.rfilename).rename(target / file.rfilename)
            shutil.rmtree(partial)


def _list_files(repository: Repository, select_files: FileSelector) -> list[RepoSibling]:
    """Return the selected files with their sizes and digests at the commit."""
    api = HfApi()
    get_info = api.dataset_info if repository.kind == "dataset" else api.model_info
    try:
        info = get_info(
            repository.id,
            revision=repository.revision,
            files_metadata=True,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        )
    except (HfHubHTTPError, HFValidationError):
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # the client checks nothing
        raise UserError(
            f"{repository.name}: the response of {hub_url()} is not that of a hub: check "
            "HF_ENDPOINT, and whether a login page or proxy responds in its place"
        ) from error
    if info.sha != repository.revision:  # a branch can have a name that looks like a commit
        raise UserError(repository.missing_commit)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    sizes = {path: _listed_size(sibling) for path, sibling in siblings.items()}
    files = [siblings[path] for path in select_files(sizes)]
    size_mb = sum(map(_listed_size, files)) / 1e6
    messages.info(f"{repository.id}: {len(files)} files, {size_mb:,.1f} MB, from {hub_url()}")
    return files


def _partial_folder(repository: Repository, files: Sequence[RepoSibling]) -> Path:
    """Return the folder for partial downloads, unique to this selection of files and commit."""
    paths = "\n".join(file.rfilename for file in files)
    digest = hashlib.sha256(paths.encode()).hexdigest()[:16]
    repository_id = repository.id.replace("/", "--")
    name = f"{repository.kind}--{repository_id}--{repository.revision}--{digest}"
    return store.workspace() / "downloads" / name


def _complete_files(
    files: Sequence[RepoSibling],
    partial: Path,
    repository: Repository,
    headers: Mapping[str, str],
) -> None:
    """Complete and verify the files in the folder for partial downloads."""
    total = sum(map(_listed_size, files))

    def downloaded() -> int:
        return sum(_size(partial / file.rfilename) for file in files)

    space_name = f"the download of {repository.name}"
    store.require_free_space(total - downloaded(), space_name, store.workspace())
    with progress_bars.byte_bar() as progress:
        task = progress.add_task(repository.id, total=total, completed=downloaded())

        def report() -> None:
            progress.update(task, completed=downloaded())

        # One file after another, so that an interrupt has only one transfer to stop.
        for file in files:
            path = partial / file.rfilename
            store.make_folder(path.parent)
            if _size(path) > _listed_size(file):
                path.unlink()
            if not path.exists():
                _copy_from_cache(file, path, repository)
            path.touch()
            store.share(path)  # another user may resume the download
            url = hf_hub_url(
                repository.id,
                file.rfilename,
                repo_type=repository.kind,
                revision=repository.revision,
            )
            transfer(url, headers, path, _listed_size(file), report)
            report()
            _verify(file, path, repository)


def _copy_from_cache(file: RepoSibling, path: Path, repository: Repository) -> None:
    """Copy a file that the user's cache of the hub has, unless it is damaged."""
    cached = try_to_load_from_cache(
        repository.id, file.rfilename, revision=repository.revision, repo_type=repository.kind
    )
    if isinstance(cached, str):
        with Path(cached).open("rb") as reader:
            digests.copy(reader, path)
        if _digest(file, path) != _listed_digest(file):
            path.unlink()


def _verify(file: RepoSibling, path: Path, repository: Repository) -> None:
    """Compare a downloaded file with the listing. On a mismatch, delete it; raise UserError."""
    if file.lfs and path.stat().st_size != file.size:  # without the time to read a large file
        path.unlink()
        raise UserError(
            f"{repository.name}: the download from {hub_url()} does not match its listing. Run the "
            "same command again; if that does not help, a proxy or mirror is at fault"
        )
    digest = _digest(file, path)
    if digest != _listed_digest(file):
        path.unlink()
        raise UserError(
            f"{file.rfilename} of {repository.name} has the digest {digest}, but {hub_url()} lists "
            f"{_listed_digest(file)}: the file was discarded. Run the same command again; if that "
            "does not help, a proxy or mirror alters the file"
        )
    if file.lfs:
        digests.remember(path, digest)


def _digest(file: RepoSibling, path: Path) -> str:
    """Return the sha256 of a large file, the git object id of any other."""
    return digests.known_or_sha256(path) if file.lfs else git_hash(path.read_bytes())


def _listed_digest(file: RepoSibling) -> str | None:
    return file.lfs.sha256 if file.lfs else file.blob_id


def _listed_size(file: RepoSibling) -> int:
    return file.size or 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
