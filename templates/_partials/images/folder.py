def read_folder(folder: Path, transform: Callable[[Any], torch.Tensor]) -> ImageFolder:
    """The images of a folder that has a folder for each class.

    Raises:
        DataError: It is not there, holds fewer than two classes, or a class without images.
    """
    if not folder.is_dir():
        raise DataError(f"`{folder}` is no folder: put images into `{folder}/<class>/`, or name a place by `--data-dir`")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(classes) < 2:
        raise DataError(f"`{folder}` needs a folder of images for each of two classes or more, and has {classes}")
    try:
        return ImageFolder(folder, transform)
    except FileNotFoundError as error:  # a class without images
        raise DataError(f"`{folder}`: {error}") from None


def check_images(data_dir: Path, part: int, parts: int) -> None:
    """Decode every image once, or one in `parts` of them: better now than in the third epoch.

    Raises:
        DataError: Some cannot be read; names the first of them.
    """

    def problem(path: str) -> str | None:
        try:
            with Image.open(path) as image:
                image.load()
        except (OSError, SyntaxError, ValueError) as error:
            return f"`{path}` cannot be read: {error}"
        return None

    # % if eval_folder is defined
    splits = [data_dir / split for split in ("train", "eval", "test") if (data_dir / split).is_dir()]
    paths = [path for split in splits for path, _ in ImageFolder(split).samples]
    # % else
    paths = [path for split in ("train", "test") for path, _ in ImageFolder(data_dir / split).samples]
    # % endif
    with ThreadPoolExecutor() as pool:  # decoding does not hold Python's lock
        problems = [found for found in pool.map(problem, paths[part::parts]) if found]
    if problems:
        raise DataError("\n".join([f"{len(problems)} images are damaged; remove or replace them:", *problems[:10]]))
