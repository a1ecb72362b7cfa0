def stamp(path: Path, root: Path) -> str:
    """Return a line that changes with the file: its size, modification time and path below `root`."""
    try:
        status = path.stat()
    except OSError as error:  # unreadable: never remembered
        return str(error)
    return f"{status.st_size} {status.st_mtime_ns} {path.relative_to(root).as_posix()}"


def recall(root: Path) -> set[str]:
    """Read the stamps of the images that earlier runs have decoded."""
    return {line for file in root.glob(".checked/*.txt") for line in file.read_text(encoding="utf-8").splitlines()}


def remember(root: Path, part: int, stamps: list[str]) -> None:
    """Add the stamps of decoded images; each process has its own file."""
    with suppress(OSError):  # a read-only folder: they are decoded again next time
        (root / ".checked").mkdir(exist_ok=True)
        with (root / ".checked" / f"{part}.txt").open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in stamps)
