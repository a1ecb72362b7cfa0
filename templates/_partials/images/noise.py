@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Small noise images of two classes."""
    generator = torch.Generator().manual_seed(0)
    for split, size in (("train", 80), ("test", 8)):
        for index in range(size):
            path = tmp_path / "images" / split / ("cats", "dogs")[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = torch.randint(256, (48, 40, 3), dtype=torch.uint8, generator=generator)
            Image.fromarray(pixels.numpy()).save(path)
    return tmp_path / "images"
