# % if cookiecutter.model == "timm"
@pytest.fixture
def published(tmp_path, monkeypatch):
    """ImageNet weights in the cache where timm looks before it downloads."""
    weights = timm.create_model(NAME).state_dict()
    published_as = timm.get_pretrained_cfg(NAME)
    assert published_as is not None
    folder = tmp_path / f"models--{str(published_as.hf_hub_id).replace('/', '--')}"
    for path in (folder / "refs", folder / "snapshots" / "main"):
        path.mkdir(parents=True)
    (folder / "refs" / "main").write_text("main")
    save_file(weights, folder / "snapshots" / "main" / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return weights
# % else
@pytest.fixture
def published(tmp_path, monkeypatch):
    """ImageNet weights in the cache where torchvision looks before it downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = get_model(NAME, weights=None).state_dict()
    path = tmp_path / "hub" / "checkpoints" / get_model_weights(NAME).DEFAULT.url.rsplit("/", 1)[-1]
    path.parent.mkdir(parents=True)
    torch.save(weights, path)
    return weights
# % endif
