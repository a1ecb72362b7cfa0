"""How the files of a layer include others: Jinja's loader, for a tree in memory. Imported only where Jinja is needed."""

import io
from collections.abc import Callable

from jinja2 import BaseLoader, Environment
from jinja2.exceptions import TemplateNotFound
from jinja2.loaders import split_template_path

from ..catalog.catalog import PARTIALS_DIR
from ..catalog.template import Layer


class LayerLoader(BaseLoader):
    """Loads the files that a layer's files may include: the layer's own files, then its partials.

    Attributes:
        names: The paths of all files loaded so far, as tracebacks show them.
    """

    def __init__(self, layer: Layer) -> None:
        self.places = [("", layer.project), (f"{PARTIALS_DIR}/", layer.partials)]
        self.names: set[str] = set()

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        path = "/".join(split_template_path(template))
        for prefix, tree in self.places:
            if path in tree:
                self.names.add(prefix + path)
                return text_of(tree[path].content).read(), prefix + path, lambda: True
        raise TemplateNotFound(template)


def text_of(content: bytes) -> io.TextIOWrapper:
    """Open the text of a file with universal newlines: all line ends are read as `\\n`."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
