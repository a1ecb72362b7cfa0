def read_folder(folder: Path, transform: Callable[[Any], torch.Tensor]) -> ImageFolder:
    """Read a folder of images with one subfolder per class.

    Raises:
        DataError: It does not exist, has fewer than two classes, or a class without images.
    """
    if not folder.is_dir():
        raise DataError(f"`{folder}` does not exist: put images into `{folder}/<class>/`, or set `--data-dir`")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(classes) < 2:
        raise DataError(f"`{folder}` needs at least two classes, one subfolder of images each, but has {classes}")
    try:
        return ImageFolder(folder, transform)
    except FileNotFoundError as error:  # a class without images
        raise DataError(f"`{folder}`: {error}") from None


def hold_out(images: ImageFolder) -> tuple[list[int], list[int]]:
    """Split into indices for training and for eval: 1 in 10 images of each class, at least one.

    Raises:
        DataError: A class has only one image.
    """
    of_class: dict[int, list[int]] = {label: [] for label in range(len(images.classes))}
    # A fixed seed, not the run's, keeps the split the same and scores comparable.
    for index in torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).tolist():
        of_class[images.targets[index]].append(index)
    if few := [images.classes[label] for label, indices in of_class.items() if len(indices) < 2]:
        raise DataError(
            f"`{images.root}` has only one image of {', '.join(few)}: each class needs two, one for eval"
        )
    held_out = [index for indices in of_class.values() for index in indices[: max(1, len(indices) // 10)]]
    kept = [index for indices in of_class.values() for index in indices[max(1, len(indices) // 10) :]]
    return kept, held_out


# % include "images/checked.py"


def check_images(data_dir: Path, part: int, parts: int) -> None:
    """Decode each new image once, to find damaged ones before training; each process checks its part.

    Good images are remembered in `data_dir/.checked` and decoded again only when they change.

    Raises:
        DataError: Some images cannot be read; the first ten are listed.
    """

    def problem(path: Path) -> str | None:
        try:
            with Image.open(path) as image:
                image.load()
        except (OSError, SyntaxError, ValueError) as error:
            return f"`{path}` cannot be read: {error}"
        return None

    folders = [data_dir / split for split in SPLITS if (data_dir / split).is_dir()]
    paths = [Path(path) for folder in folders for path, _ in ImageFolder(folder).samples]
    known, stamps = recall(data_dir), {stamp(path, data_dir): path for path in paths[part::parts]}
    new = {line: path for line, path in stamps.items() if line not in known}
    with ThreadPoolExecutor() as pool:  # decoding releases the GIL
        found = dict(zip(new, pool.map(problem, new.values()), strict=True))
    remember(data_dir, part, [line for line, text in found.items() if text is None])
    if problems := [text for text in found.values() if text is not None]:
        raise DataError("\n".join([f"{len(problems)} images are damaged, remove or replace them:", *problems[:10]]))
