"""Ordinary cookiecutter templates, rendered by cookiecutter itself and by paccel: the same files, byte for byte.

The templates have the features that well-known public ones use. paccel differs on purpose in six ways, none of which
these templates touch, but for the last:

- Python files are formatted by black where the render's `pyproject.toml` has a `[tool.black]`.
- Hooks are never run.
- A folder or file whose name renders to nothing is left out (cookiecutter fails for a folder).
- An answer is text, as one that is typed at cookiecutter's prompt, even if it looks like Jinja.
- The blank line after a line statement stays, which Jinja removes (`test_cookiecutter.py`).
- `_output_dir` is `.`, as the real one would be another in each clone: `MACHINE` has it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cookiecutter.main import cookiecutter

from paccel.catalog.answers import resolve_answers
from paccel.catalog.catalog import load_template
from paccel.files.tree import read_tree
from paccel.lint.check import check_template
from paccel.render.render import render

pytestmark = pytest.mark.slow

MACHINE = {"_output_dir"}


class Case(NamedTuple):
    """A template and the answers to try, besides the defaults."""

    entries: Mapping[str, Any]
    files: Mapping[str, str | bytes]
    answers: tuple[Mapping[str, Any], ...] = ()
    folder: str = "{{cookiecutter.slug}}"
    partials: Mapping[str, str] = {}


LICENSE = """\
{% if cookiecutter.license == 'MIT license' -%}
MIT License

Copyright (c) {% now 'utc', '%Y' %}, {{ cookiecutter.full_name }}
{% elif cookiecutter.license == 'BSD license' %}

BSD License
{%- endif %}
"""

CASES = {
    # A Python package: names made of names, choices, a command line or none, a file that an answer turns off.
    "package": Case(
        {
            "full_name": "Ann Author",
            "email": "{{ cookiecutter.full_name.split(' ')[0] | lower }}@example.com",
            "project_name": "Python Boilerplate",
            "slug": "{{ cookiecutter.project_name.lower().replace(' ', '_').replace('-', '_') }}",
            "version": "0.1.0",
            "command_line_interface": ["Typer", "Argparse", "No command-line interface"],
            "license": ["MIT license", "BSD license", "Not open source"],
            "use_pytest": "n",
            "year": 2026,
        },
        {
            "{{cookiecutter.slug}}/__init__.py": '"""{{ cookiecutter.project_name }}."""\n\n__version__ = \'{{ cookiecutter.version }}\'\n',
            "{{cookiecutter.slug}}/{% if cookiecutter.command_line_interface != 'No command-line interface' %}cli.py{% endif %}": "{%- if cookiecutter.command_line_interface == 'Typer' %}\nimport typer\n{%- else %}\nimport argparse\n{%- endif %}\n",
            "{% if cookiecutter.license != 'Not open source' %}LICENSE{% endif %}": LICENSE,
            "setup.cfg": "[bumpversion:file:setup.py]\nsearch = version='{current_version}'\nyear = {{ cookiecutter.year }}\n",
            "Makefile": "help:\n\t@python -c \"$$PRINT\" < $(MAKEFILE_LIST)\n# {{ '{{' }} kept {{ '}}' }}\n",
            "tests/test_{{cookiecutter.slug}}.py": "{% if cookiecutter.use_pytest == 'y' -%}\nimport pytest\n{% else %}\nimport unittest\n{%- endif %}",
            "empty.txt": "",
        },
        (
            {"project_name": "Größe-Zwei 2", "license": "BSD license", "command_line_interface": "Argparse", "use_pytest": "y"},
            {"license": "Not open source", "command_line_interface": "No command-line interface", "full_name": "Ö Ü"},
        ),
    ),
    # Data science: prompts in words, a choice of tables' keys, folders that are only there to be there, notebooks, data.
    "data-science": Case(
        {
            "project_name": "project_name",
            "slug": "{{ cookiecutter.project_name.lower().replace(' ', '_') }}",
            "module_name": "{{ cookiecutter.project_name.lower().replace(' ', '_').replace('-', '_') }}",
            "author_name": "Your name (or your organization/company/team)",
            "dataset_storage": ["none", "azure", "s3", "gcs"],
            "environment_manager": ["virtualenv", "conda", "none"],
            "include_code_scaffold": ["Yes", "No"],
            "_copy_without_render": ["notebooks/*.ipynb", "docs/raw", "*.tmpl"],
            "__prompts__": {
                "project_name": "What is it called?",
                "dataset_storage": {"__prompt__": "Where is the data?", "none": "nowhere", "s3": "in S3"},
            },
        },
        {
            "data/raw/.gitkeep": "",
            "notebooks/a.ipynb": '{"cells": [{"source": ["{{ not_jinja }}"]}]}\n',
            "docs/raw/{{untouched}}/{{x}}.md": "{% raw untouched %}",
            "docs/index.md": "# {{ cookiecutter.project_name }}\n{% raw %}{{ kept }}{% endraw %}\n",
            "mkdocs.tmpl": "{{ y }}",
            "Makefile": "sync:\n{% if cookiecutter.dataset_storage == 's3' %}\taws s3 sync\n{% elif not cookiecutter.dataset_storage == 'none' %}\tother {{ cookiecutter.dataset_storage }}\n{% endif %}",
            "{{cookiecutter.module_name}}/{{ 'plots.py' if cookiecutter.include_code_scaffold == 'Yes' }}": "x = 1\n",
            "references/logo.png": b"\x89PNG\r\n\x1a\n\0\0{{ nothing }}\xff",
            "references/cities.csv": "a;{{ cookiecutter.author_name }}\n",
        },
        ({"project_name": "Crop Yield", "dataset_storage": "s3"}, {"dataset_storage": "gcs", "include_code_scaffold": "No"}),
    ),
    # Django: dozens of yes and no, true booleans, nested conditions, settings files of services, whitespace control.
    "django": Case(
        {
            "project_name": "My Awesome Project",
            "slug": "{{ cookiecutter.project_name.lower()|replace(' ', '_')|replace('-', '_')|trim() }}",
            "description": "Behold {{ cookiecutter.project_name }}!",
            "domain_name": "example.com",
            "email": "{{ cookiecutter.slug | lower | trim() }}@{{ cookiecutter.domain_name }}",
            "postgresql_version": ["18", "17", "16"],
            "cloud_provider": ["AWS", "GCP", "None"],
            "use_docker": False,
            "use_celery": True,
            "ci_tool": ["None", "Github", "Gitlab"],
            "windows": "n",
        },
        {
            "config/settings/base.py": "DEBUG = {{ cookiecutter.use_docker }}\n{%- if cookiecutter.use_celery %}\n\n# Celery\n{%- if cookiecutter.cloud_provider == 'AWS' and cookiecutter.use_docker %}\nBROKER = 'sqs'\n{%- else %}\nBROKER = \"redis\"\n{%- endif %}\n{%- endif %}\n",
            "compose/{{ 'production' if cookiecutter.use_docker }}.yml": "image: postgres:{{ cookiecutter.postgresql_version }}\n",
            ".envs/.local/.django": "X={{ cookiecutter.domain_name | upper }}\n",
            "{{cookiecutter.slug}}/templates/base.html": "{% raw %}{% load static %}<a href=\"{{ url }}\">{% endraw %}{{ cookiecutter.description | escape }}</a>\n",
            "{{cookiecutter.slug}}/static/fonts.woff": bytes(range(256)),
            "locale/fr.po": "msgid \"ça\"\n# {{ cookiecutter.slug }}\n",
            "manage.py": "#!/usr/bin/env python\nprint('{{ cookiecutter.slug }}')\n",
        },
        ({"use_docker": True, "use_celery": "no", "cloud_provider": "None"}, {"project_name": " Tom & Jerry's ", "postgresql_version": "16"}),
    ),
    # Everything computed once: private variables, private tables and lists, in defaults, choices, names and files.
    "private": Case(
        {
            "name": "My Net",
            "_raw": "{{ raw }}",
            "_table": {"MIT": "{{ not_rendered }}", "n": 1, "deep": {"b": [True, None, 2.5]}},
            "__slug": "{{ cookiecutter.name | slugify }}",
            "__words": ["{{ cookiecutter.__slug }}", 7, None, True, ["{{ cookiecutter.name }}"], {"k": "{{ cookiecutter._raw }}"}],
            "__map": {"{{ cookiecutter.__slug }}": {"in": "{{ cookiecutter.name | upper }}"}},
            "slug": "{{ cookiecutter.__slug }}",
            "license": ["{{ cookiecutter.__words[0] }}-1", "{{ cookiecutter._table.MIT }}"],
            "__number": 12,
            "__null": None,
            "__late": "{{ cookiecutter.license | length }}",
        },
        {
            "{{cookiecutter.__slug}}/{{cookiecutter.__words[5].k}}.txt": "{{ cookiecutter.__map[cookiecutter.__slug].in }} {{ cookiecutter._raw }}",
            "all.json": "{% for key, value in cookiecutter.items() if key not in ('_output_dir',) %}{{ key }}={{ value }}\n{% endfor %}",
            "json.json": "{{ cookiecutter.__words | jsonify }} {{ cookiecutter._table | jsonify(2) }}",
        },
        ({"name": "Ein Netz"}, {"slug": "other"}),
    ),
    # Tables, which cookiecutter makes after all the others, and loops over them.
    "tables": Case(
        {
            "name": "svc",
            "file_types": {
                "png": {"title": "{{ cookiecutter.name }} graphics", "mime": ["image/png", "{{ cookiecutter.last }}"]},
                "{{ cookiecutter.name }}": {"size": 3, "on": True},
            },
            "slug": "{{ cookiecutter.name }}-x",
            "last": "z",
            "_config": {"raw": "{{ x }}"},
        },
        {
            "types.txt": "{% for ext, info in cookiecutter.file_types | dictsort %}{{ loop.index }}/{{ loop.length }} {{ ext }}: {{ info }}{% if not loop.last %},{% endif %}\n{% endfor %}",
            "config.yml": "{{ cookiecutter._config.raw }} {{ cookiecutter._config | tojson }}\n",
            "once.txt": "{% set ns = namespace(n=0) %}{% for _ in range(3) recursive %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        },
        ({"name": "api"},),
    ),
    # LaTeX and others: delimiters of the template's own, in names, defaults and files.
    "delimiters": Case(
        {
            "title": "Thesis",
            "slug": "\\VAR{cookiecutter.title | lower}{{ kept }}",
            "_jinja2_env_vars": {
                "block_start_string": "\\BLOCK{", "block_end_string": "}", "variable_start_string": "\\VAR{",
                "variable_end_string": "}", "comment_start_string": "\\#{", "comment_end_string": "}",
                "line_statement_prefix": "%%", "line_comment_prefix": "%#", "trim_blocks": True, "autoescape": False,
            },
            "_copy_without_render": ["*.cls"],
        },
        {
            "\\VAR{cookiecutter.slug}.tex": "\\documentclass{article} {{ x }} \\#{ gone }\n%% if cookiecutter.title == 'Thesis'\n\\title{\\VAR{cookiecutter.title}}\n%% endif\n%# gone\n\\BLOCK{ if true }yes\\BLOCK{ endif }\nend\n",
            "a.cls": "\\VAR{no}",
            "plain.txt": "{{ cookiecutter.title }} {% if %} {#\n",
        },
        ({"title": "Paper"},),
        folder="\\VAR{cookiecutter.slug}",
    ),
    # Partials: include, import of macros, extends with blocks, from the project and from `templates/`.
    "partials": Case(
        {"slug": "net", "kind": ["cnn", "mlp"], "_extensions": ["jinja2.ext.do", "jinja2.ext.loopcontrols", "cookiecutter.extensions.SlugifyExtension"]},
        {
            "a.txt": "{% import 'macros.txt' as m %}{{ m.shout(cookiecutter.kind) }}{% from 'macros.txt' import twice with context %}{{ twice() }}\n",
            "b.txt": "{% extends 'base.txt' %}{% block body %}{{ super() }}-{{ cookiecutter.kind }}{% endblock %}",
            "c.txt": "{% include 'part.txt' %}{% include ['no.txt', 'sub/own.txt'] %}{% include 'nothing.txt' ignore missing %}",
            "sub/own.txt": "own {% do [1].append(2) %}{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i ~ ',' ~ cookiecutter.kind }}{% endfor %}\r\n",
            "d.txt": "{% macro wrap() %}{{ caller(1) }}{% endmacro %}{% call(x) wrap() %}{{ x }}{% endcall %}{% filter upper %}abc{{ 'd' ~ 5 ~ 1.5 }}{% endfilter %}",
        },
        ({"kind": "mlp"},),
        partials={
            "macros.txt": "{% macro shout(x) %}{{ x | upper }}!{% endmacro %}{% macro twice() %}{{ cookiecutter.slug * 2 }}{% endmacro %}",
            "base.txt": "[{% block body %}base{% endblock %}]\n",
            "part.txt": "{{ cookiecutter.slug }}\r\npart\n",
        },
    ),
    # Line ends, byte-order marks, bytes that are not text, modes.
    "bytes": Case(
        {"slug": "net", "text": "a\nb\n", "crlf": "x\r\ny"},
        {
            "crlf.txt": "{{ cookiecutter.slug }}\r\nb\r\n{{ cookiecutter.text }}",
            "mixed.txt": "a {{ cookiecutter.slug }}\nb\r\nc\r",
            "old_mac.txt": "a {{ cookiecutter.slug }}\rb\r",
            "bom.txt": b"\xef\xbb\xbf{{ cookiecutter.slug }}\n",
            "plain_crlf.txt": "nothing\r\nto render\n",
            "no_end.txt": "{{ cookiecutter.slug }}",
            "ends.txt": "{{ cookiecutter.crlf }}|{{ cookiecutter.text }}\n\n\n",
            "unicode.txt": "{{ cookiecutter.slug }} 日本語 👩‍👩‍👧 \u2028 \x0c \x0b é\n",
            "logo.gif": b"GIF89a{{ x }}\0\x01",
            "utf16.txt": "{{ x }}\n".encode("utf-16"),
            "run.sh": b"#!/bin/sh\necho {{ cookiecutter.slug }}\n",
        },
        ({"slug": "日本-👩‍👩‍👧"},),
    ),
    "new-lines": Case(
        {"slug": "net", "_new_lines": "\r\n"},
        {"a.txt": "{{ cookiecutter.slug }}\nb\n", "plain.txt": "a\nb\n", "crlf.txt": "a\r\nb\r\n"},
    ),
    # What JSON can hold besides text.
    "types": Case(
        {
            "slug": "net", "number": 3, "float": 1.50, "null": None, "yes": True, "no": False,
            "mixed": [False, 2, None, "x", {"a": "{{ cookiecutter.number }}"}], "twice": ["a", "b", "a"],
            "_list": [1, [2]], "__bool": False,
        },
        {
            "a.txt": "{{ cookiecutter.number + '1' }} {{ cookiecutter.float }} {{ cookiecutter.null }} {{ cookiecutter.null is none }}\n",
            "b.txt": "{{ cookiecutter.mixed }} {{ cookiecutter.mixed is sameas false }} {% if cookiecutter.mixed %}on{% else %}off{% endif %} {{ cookiecutter.twice }}\n",
            "c.txt": "{{ cookiecutter.yes is sameas true }} {{ cookiecutter.no }} {{ cookiecutter.__bool }} {{ cookiecutter._list }}\n",
            "d.txt": "{{ _cookiecutter.mixed }} {{ _cookiecutter.number }} {{ _cookiecutter | length }}\n",
            "e.txt": "{{ cookiecutter | length }} {{ cookiecutter.keys() | list }}",
        },
    ),
    # What a template may know of its own making, and what one file tells the next.
    "own-story": Case(
        {"slug": "net"},
        {
            "a.txt": "{{ cookiecutter._template }} {{ cookiecutter._repo_dir }} {{ cookiecutter._checkout }} {{ cookiecutter._output_dir is string }}\n",
            "b.txt": "{% set _ = cookiecutter.update({'seen': 'b'}) %}",
            "a/c.txt": "{{ cookiecutter.seen }}",
            "z.txt": "{{ cookiecutter.seen }}",
        },
    ),
}  # fmt: skip


def by_cookiecutter(folder: Path, answers: Mapping[str, Any], output: Path) -> dict[str, tuple[bytes, bool]]:
    made = cookiecutter(
        str(folder), no_input=True, extra_context=dict(answers), output_dir=str(output), default_config=True
    )
    return {path: (file.content, file.executable) for path, file in read_tree(Path(made)).items()}


def by_paccel(folder: Path, answers: Mapping[str, Any]) -> dict[str, tuple[bytes, bool]]:
    template = load_template(str(folder))
    tree = render(template, resolve_answers(template, answers))
    return {path: (file.content, file.executable) for path, file in tree.items()}


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name, case in CASES.items() for number in range(len(case.answers) + 1)]
)
def test_the_result_is_that_of_cookiecutter(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HOME", "USERPROFILE"):  # where cookiecutter keeps its replays
        monkeypatch.setenv(variable, str(tmp_path))
    case = CASES[name]
    folder = written(case, tmp_path / name)
    answers = [{}, *case.answers][number]
    ours = by_paccel(folder, answers)
    assert ours == by_cookiecutter(folder, answers, tmp_path / "output")
    assert ours


def written(case: Case, folder: Path) -> Path:
    files = {f"{case.folder}/{path}": content for path, content in case.files.items()}
    files |= {f"templates/{path}": content for path, content in case.partials.items()}
    files["cookiecutter.json"] = json.dumps(case.entries)
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        target.write_bytes(data)
        target.chmod(0o755 if data.startswith(b"#!") else 0o644)
    return folder


TRUE_FINDINGS = {
    "package": {("unused-question", "email"), ("drawn", "")},
    "data-science": {("unused-question", "environment_manager")},
    "django": {("unused-question", "email"), ("unused-question", "ci_tool"), ("unused-question", "windows")},
    "tables": {("invalid-output", "")},  # `config.yml` has two values in a line
    "delimiters": {("not-jinja", "")},  # `plain.txt` has the usual delimiters, which are not this template's
}


@pytest.mark.parametrize("name", CASES)
def test_check_template_raises_no_false_alarm(name: str, tmp_path: Path) -> None:
    findings = check_template(str(written(CASES[name], tmp_path / name))).findings
    assert {(finding.rule, finding.subject) for finding in findings} == TRUE_FINDINGS.get(name, set())
