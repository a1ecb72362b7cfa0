"""Stages."""

from torch.nn.functional import cross_entropy


def pretrain(model, loader, optimizer, epochs):
    """Go over the loader for some epochs."""
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for images, labels in loader:
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"pretrain {epoch + 1}: {total / len(loader):.4f}")


def finetune(model, loader, optimizer, epochs):
    """Go over the loader for some epochs."""
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for images, labels in loader:
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"finetune {epoch + 1}: {total / len(loader):.4f}")


def distill(model, loader, optimizer, epochs):
    """Go over the loader for some epochs."""
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for images, labels in loader:
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"distill {epoch + 1}: {total / len(loader):.4f}")
