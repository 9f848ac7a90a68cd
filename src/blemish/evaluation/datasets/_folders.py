"""Finding a dataset's folders and images; a wrong folder is answered with the right one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from blemish.errors import DatasetError, NoImagesError
from blemish.imaging import list_images

LEVELS = 2  # how far above and below a wrong folder the right one is looked for
SIBLINGS = 50  # how many sub-folders of each are looked into, so that no disk is walked through


def existing_root(root: Path) -> Path:
    """The dataset's folder, or a DatasetError where there is none."""
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder; give the folder that holds the dataset")
    return root


def choose(asked: Sequence[str] | None, there: Sequence[str], root: Path) -> list[str]:
    """The asked categories, each once and in the asked order, or all that are there."""
    if asked is None:
        return list(there)
    for name in asked:
        if name not in there:
            raise DatasetError(
                f"there is no category '{name}' in {root}; choose from: {', '.join(there)}"
            )
    return list(dict.fromkeys(asked))


def subfolders(folder: Path) -> list[Path]:
    """The visible folders directly below this one, by name; none where it does not exist."""
    if not folder.is_dir():
        return []
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise DatasetError(
            f"the folder {folder} cannot be read ({error.strerror}); check its permissions"
        ) from error


def images_below(folder: Path) -> tuple[Path, ...]:
    """The images directly in a folder, 2 before 10; none where the folder does not exist."""
    try:
        return tuple(list_images(folder))
    except NoImagesError as error:
        # A folder that cannot be read is not an empty one: its images would be left out unseen.
        if isinstance(error.__cause__, OSError):
            raise
        return ()


def good_images(folder: Path) -> tuple[Path, ...]:
    """The images to learn from, or a DatasetError where there are none."""
    images = images_below(folder)
    if not images:
        raise DatasetError(f"there are no images in {folder}; put good images for training there")
    return images


def category_folders(
    root: Path, is_category: Callable[[Path], bool], layout: str
) -> dict[str, Path]:
    """Category name to folder below `root`, or the root itself where it is a category."""
    existing_root(root)
    if is_category(root):
        return {root.resolve().name: root}
    folders = {folder.name: folder for folder in subfolders(root) if is_category(folder)}
    if not folders:

        def holds_categories(folder: Path) -> bool:
            return is_category(folder) or any(is_category(f) for f in subfolders(folder)[:SIBLINGS])

        raise wrong_folder(root, holds_categories, layout)
    return folders


def wrong_folder(root: Path, is_right: Callable[[Path], bool], layout: str) -> DatasetError:
    """The error for a folder without `layout`; it names one nearby that has it, if there is."""
    below, nearby = [root], list[Path]()
    for _ in range(LEVELS):
        below = [child for folder in below for child in _looked_into(folder)]
        nearby += below
    for folder in [*nearby, *list(root.resolve().parents)[:LEVELS]]:
        try:
            if is_right(folder):
                return DatasetError(f"{root} has no {layout}; give {folder}, which has")
        except (DatasetError, NoImagesError):  # not ours to read, so no hint to give
            continue
    return DatasetError(f"{root} has no {layout}; give the dataset's own folder")


def _looked_into(folder: Path) -> list[Path]:
    try:
        return subfolders(folder)[:SIBLINGS]
    except DatasetError:
        return []
