"""What a run exports, uploaded to the hub of Hugging Face: only where the user names a repository."""

from pathlib import Path

from easy2hard import __version__
from easy2hard.errors import UserError
from easy2hard.huggingface.library import load_library


def check_repository(repo: str) -> None:
    """Refuse, before anything is computed, what cannot be uploaded to.

    Raises:
        UserError: it is no name of a repository, or the user is not logged in.
    """
    hub = load_library("huggingface_hub")
    try:
        load_library("huggingface_hub.utils").validate_repo_id(repo)
    except ValueError as error:
        raise UserError(f"--push {repo!r}: no name of a repository, such as OWNER/NAME") from error
    if hub.get_token() is None:
        raise UserError(f"--push {repo}: there is no token of the hub; `hf auth login` or HF_TOKEN gives one")


def upload(folder: Path, repo: str, kind: str) -> str:
    """Upload a folder, as one commit, to a repository that is made where it is missing; return its address.

    Args:
        folder: all files in it are uploaded.
        repo: ``OWNER/NAME``, or ``NAME`` of the user.
        kind: ``model`` or ``dataset``.

    Raises:
        UserError: the hub cannot be reached, or does not let the user write there; the folder stays.
    """
    hub, errors = load_library("huggingface_hub"), load_library("huggingface_hub.errors")
    try:
        api = hub.HfApi(library_name="easy2hard", library_version=__version__)
        made = api.create_repo(repo, repo_type=kind, exist_ok=True)
        message = f"Export of easy2hard {__version__}"
        api.upload_folder(repo_id=made.repo_id, folder_path=folder, repo_type=kind, commit_message=message)
    except (OSError, ValueError, RuntimeError, errors.HTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        again = f"hf upload {repo} {folder}" + (" --repo-type dataset" if kind == "dataset" else "")
        raise UserError(f"--push {repo}: {reason} ({folder} is written; `{again}` tries again)") from error
    return str(made)
