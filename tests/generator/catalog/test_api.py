"""How a template declares renamed names, and the errors for invalid declarations."""

import pytest

from paccel.catalog.api import ApiName, parse_new_name
from paccel.catalog.metadata import MAX_RENAMES, MAX_RULE_BYTES, parse_metadata
from paccel.errors import TemplateError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("model:make_net", ApiName("model", "make_net")),
        ("net.model:Net.embed", ApiName("net.model", "Net", "embed")),
        ("model:make_net(hidden)", ApiName("model", "make_net", parameter="hidden")),
        ("model:Net.embed(x)", ApiName("model", "Net", "embed", "x")),
        ("größe:maß", ApiName("größe", "maß")),
    ],
)
def test_a_name_is_read_and_written_back(text: str, name: ApiName) -> None:
    assert ApiName.parse(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    ["", "model", "model.make_net", ":x", "model:", "a b:c", "model:a.b.c", "model:a()", "m:class", "model:a(b, c)", "model:a\n", "../x:y"],
)  # fmt: skip
def test_what_is_no_name_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(TemplateError, match="write `module:name`"):
        ApiName.parse(text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("m:a", "a b", "is not a new name for `m:a`: write one word, or `module:name`"),
        ("m:a(b)", "n:c", "is not a new name"),
        ("m:a.b", "import", "is not a new name"),
        ("m:a", "a", "renamed to itself"),
        ("m:a", "n:b.c", "is a name in a module, and `n:b.c` is not"),
    ],
)
def test_a_new_name_that_cannot_be_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        parse_new_name(new, ApiName.parse(old))


def test_all_mistakes_in_the_tables_are_named_at_once() -> None:
    text = """
[[renamed_api]]
from = "model.make_net"
to = "make_model"

[[renamed_api]]
from = "model:a"

[[changed_meaning]]
name = "model:a"
txt = "b"

[[rewrites]]
"""
    with pytest.raises(TemplateError) as error:
        parse_metadata(text, "paccel.toml")
    for problem in (
        "`renamed_api[0]`: `model.make_net` is not the name of something in a module",
        "`renamed_api[1].to` is missing",
        "`changed_meaning[0].text` is missing",
        "`changed_meaning[0].txt` is not a known key; did you mean `text`?",
        "`rewrites[0].rule` is missing",
    ):
        assert problem in str(error.value)


def test_tables_and_rules_are_bounded() -> None:
    with pytest.raises(TemplateError, match=f"more than {MAX_RENAMES}"):
        parse_metadata("[[changed_meaning]]\nname='a:b'\ntext='c'\n" * (MAX_RENAMES + 1), "paccel.toml")
    with pytest.raises(TemplateError, match="longer than 64 KiB"):
        parse_metadata(f"[[rewrites]]\nrule='{'x' * (MAX_RULE_BYTES + 1)}'\n", "paccel.toml")
