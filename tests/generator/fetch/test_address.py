"""Addresses of templates are parsed as people write them, and shown without their secrets."""

from pathlib import Path

import pytest

from paccel.errors import TemplateError
from paccel.fetch.address import address_from, parse_address
from paccel.fetch.credentials import without_secrets

TOKEN = "glpat-12345678901234567890"


@pytest.mark.parametrize(
    ("source", "place", "version", "inside"),
    [
        ("https://host/group/x", "https://host/group/x", "", ""),
        ("https://user@host/x.git", "https://user@host/x.git", "", ""),
        ("https://user:word@host/x.git", "https://user:word@host/x.git", "", ""),
        ("https://user@host/x.git@v1.2", "https://user@host/x.git", "v1.2", ""),
        ("https://host/x@v1#one", "https://host/x", "v1", "one"),
        ("https://host:8443/x.git@feature/y", "https://host:8443/x.git", "feature/y", ""),
        ("https://host/job@2/x.git@v1", "https://host/job@2/x.git", "v1", ""),
        ("https://host/x.git@a@b", "https://host/x.git", "a@b", ""),
        ("git@host:group/x.git", "git@host:group/x.git", "", ""),
        ("git@host:group/x.git@team/next", "git@host:group/x.git", "team/next", ""),
        ("me@host:x@v1#a/b", "me@host:x", "v1", "a/b"),
        ("host:group/x.git@v1", "host:group/x.git", "v1", ""),
        ("ssh://git@host:22/x.git@v1", "ssh://git@host:22/x.git", "v1", ""),
        ("git+ssh://git@host/x@v1", "ssh://git@host/x", "v1", ""),
        ("gh:org/repo", "https://github.com/org/repo.git", "", ""),
        ("gh:org/repo.git@v1#one", "https://github.com/org/repo.git", "v1", "one"),
        ("gl:group/sub/repo@feature/x", "https://gitlab.com/group/sub/repo.git", "feature/x", ""),
        ("git+bb:team/repo#one", "https://bitbucket.org/team/repo.git", "", "one"),
    ],
)
def test_the_parts_of_a_git_address(source: str, place: str, version: str, inside: str) -> None:
    address = parse_address(source)
    assert (address.kind, address.place, address.version, address.inside) == ("git", place, version, inside)


@pytest.mark.parametrize(
    "url",
    [
        "https://host/x.zip",
        "HTTPS://host/x.ZIP",
        "https://host/x.zip?ref=main",
        "https://host/archive?at=main&format=zip",
        "https://host/download?file=x.zip",
        "https://api.github.com/repos/o/r/zipball/main",
        "https://codeload.github.com/o/r/zip/refs/heads/main",
    ],
)
def test_the_address_of_a_zip_file(url: str) -> None:
    address = parse_address(url + "#one")
    assert (address.kind, address.place, address.inside, address.shown) == ("zip", url, "one", url + "#one")
    assert parse_address("git+" + url).kind == "git"


def test_paths_on_the_disk_are_told_by_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "job@2" / "tpl#1" / "one").mkdir(parents=True)
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    (tmp_path / "pack.zip").write_bytes(b"")
    bare = tmp_path / "bare.git"
    for name in ("objects", "refs"):
        (bare / name).mkdir(parents=True)
    (bare / "HEAD").write_text("ref: refs/heads/main\n")

    def parts(source: str) -> tuple[str, str, str, str]:
        address = parse_address(source)
        return address.kind, address.place.removeprefix(f"{tmp_path}/"), address.version, address.inside

    assert parts("./job@2/tpl#1") == ("folder", "job@2/tpl#1", "", "")
    assert parts("~/repo#one") == ("folder", "repo", "", "one")
    assert parts("repo@v1#one") == ("git", "repo", "v1", "one")
    assert parts("git+./repo") == ("git", "repo", "", "")
    assert parts("job@2@v1") == ("nothing", "job@2@v1", "", "")  # no repository
    assert parts("./pack.zip#one") == ("zip", "pack.zip", "", "one")
    assert parts("bare.git") == ("git", "bare.git", "", "")
    assert parts(f"{bare}@feature/x") == ("git", "bare.git", "feature/x", "")
    assert parts((tmp_path / "job@2").as_uri()) == ("folder", "job@2", "", "")
    assert parts((tmp_path / "pack.zip").as_uri()) == ("zip", "pack.zip", "", "")
    assert parts("file://localhost" + str(tmp_path / "repo") + "@v1#x")[2:] == ("v1", "x")
    assert parse_address("./repo@v1#one").shown == f"{tmp_path}/repo@v1#one"
    assert parts("C:\\Users\\me\\tpl.git") == ("nothing", "C:\\Users\\me\\tpl.git", "", "")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"https://user:{TOKEN}@host/x.git@v1#one", "https://host/x.git@v1#one"),
        (f"https://{TOKEN}@host/x", "https://host/x"),
        (f"https://{TOKEN}:x-oauth-basic@host/x", "https://host/x"),
        (f"https://:{TOKEN}@host:8443/x", "https://host:8443/x"),
        (f"git+https://oauth2:{TOKEN}@host/x.git", "git+https://host/x.git"),
        (f"HTTPS://user:{TOKEN}@host/x", "HTTPS://host/x"),
        (f"https://user:{TOKEN}@part@host/x", "https://host/x"),
        (f"https://user:{TOKEN}/part@host/x", "https://host/x"),
        (f"ssh://git:{TOKEN}@host:22/x.git", "ssh://git@host:22/x.git"),
        (f"git+ssh://git:{TOKEN}@host/x.git", "git+ssh://git@host/x.git"),
        (f"https://host/x.zip?private_token={TOKEN}", "https://host/x.zip"),
        (f"https://host/x.zip?ref=main&private_token={TOKEN}&raw=1", "https://host/x.zip?ref=main&raw=1"),
        (f"https://host/x.zip?access%5Ftoken={TOKEN}#one", "https://host/x.zip#one"),
        (f"https://host/x.zip?a=1;job_token={TOKEN}#one", "https://host/x.zip?a=1#one"),
        (f"https://host/x.zip?X-Amz-Expires=60&X-Amz-Signature={TOKEN}", "https://host/x.zip?X-Amz-Expires=60"),
        (f"https://host/x.zip?sv=2024&sig={TOKEN}", "https://host/x.zip?sv=2024"),
        ("https://host/x.zip?token=abc", "https://host/x.zip"),
        (f"https://host/x.zip?q={TOKEN}", "https://host/x.zip"),  # under a name that says nothing
        (f"https://host/x.zip?{TOKEN}", "https://host/x.zip"),
        (f"https://host/x.zip#one?token={TOKEN}", "https://host/x.zip#one"),
        ("https://host/x.zip?ref=0123456789012345678901234567890123456789", None),
        ("git@host:group/x.git@v1", None),
        ("ssh://git@host/x.git", None),
        ("git+ssh://me@host:2222/x.git@v1#a", None),
        ("https://host:8443/job@2/x.git@v1", None),
        ("https://[::1]:8443/x@v1", None),
    ],
)
def test_secrets_of_an_address_are_not_shown(address: str, shown: str | None) -> None:
    assert without_secrets(address) == (shown or address)
    said = without_secrets(f"fatal: unable to access '{address}': 403\nremote: see <{address}>")
    assert said == f"fatal: unable to access '{shown or address}': 403\nremote: see <{shown or address}>"
    assert TOKEN not in said


def test_a_secret_is_hidden_wherever_git_repeats_it() -> None:
    address = parse_address("https://user:pa%24%24word@host/x.git")
    assert address.has_secrets
    assert address.hide("bad password pa%24%24word or pa$$word for user") == "bad password *** or *** for user"
    assert not parse_address("git@host:x.git").has_secrets
    assert not parse_address("ssh://git@host/x.git").has_secrets


@pytest.mark.parametrize(
    "source", [f"https://user:{TOKEN}/x@host/y.git", f"https://user:{TOKEN}#x@host/y", "a\0b", "a\udcffb"]
)
def test_an_address_that_cannot_be_meant_is_explained(source: str) -> None:
    with pytest.raises(TemplateError, match=r"write `%2F`|control characters or is not valid") as caught:
        parse_address(source)
    assert TOKEN not in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("page", "meant"),
    [
        ("https://github.com/o/r/tree/main/sub/x", "https://github.com/o/r@main#sub/x"),
        ("https://github.com/o/r/tree/v1.2/", "https://github.com/o/r@v1.2"),
        ("https://github.com/o/r/blob/main/sub/cookiecutter.json", "https://github.com/o/r@main#sub"),
        ("https://gitlab.com/g/h/r/-/tree/v1/sub?ref_type=heads", "https://gitlab.com/g/h/r@v1#sub"),
        ("https://codeberg.org/o/r/src/branch/main/sub", "https://codeberg.org/o/r@main#sub"),
        (f"https://user:{TOKEN}@github.com/o/r/tree/main/s", "https://github.com/o/r@main#s"),
    ],
)
def test_the_page_of_a_folder_is_answered_with_its_address(page: str, meant: str) -> None:
    with pytest.raises(TemplateError, match="is a web page about a repository") as raised:
        parse_address(page)
    assert f"write `{meant}`" in str(raised.value)
    assert TOKEN not in str(raised.value)
    assert parse_address(meant).kind == "git"


@pytest.mark.parametrize("source", ["https://host/team/src/tools/net", "https://host/a/b/tree/c.git", "gh:o/tree@x/y"])
def test_a_repository_may_be_called_like_a_page(source: str) -> None:
    assert parse_address(source).kind == "git"


def test_a_template_near_its_project_is_recorded_relative_to_it(tmp_path: Path) -> None:
    for name in ("mono/.git", "mono/templates/one", "mono/services/net", "far/two", "beside"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "mono" / "pack.zip").write_bytes(b"")

    def recorded(source: str, project: str) -> str:
        found = address_from(source, tmp_path / project)
        again = parse_address(found, tmp_path / project)
        assert again.shown == parse_address(source).shown  # it leads to the same place
        return found

    one, two = str(tmp_path / "mono" / "templates" / "one"), str(tmp_path / "far" / "two")
    assert recorded(one, "mono/services/net") == "../../templates/one"
    assert recorded(str(tmp_path / "mono"), "mono/services/net") == "../.."
    assert recorded(str(tmp_path / "mono" / "pack.zip") + "#a/b", "mono/services/net") == "../../pack.zip#a/b"
    assert recorded(two, "mono/services/net") == two
    assert recorded(two, "far/net") == "../two"
    assert recorded(f"git+{tmp_path}/mono@v1#a", "net") == "git+../mono@v1#a"
    (tmp_path / "net" / "template").mkdir(parents=True)
    assert recorded(str(tmp_path / "net" / "template"), "net") == "./template"
    for remote in ("https://host/x@v1", "git@host:x.git"):
        assert address_from(remote, tmp_path) == remote


def test_a_project_behind_a_link_finds_its_template(tmp_path: Path) -> None:
    (tmp_path / "real" / "tpl").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    source = parse_address(str(tmp_path / "link" / "tpl")).shown
    assert (
        address_from(source, tmp_path / "link" / "net") == address_from(source, tmp_path / "real" / "net") == "../tpl"
    )
