"""ast-grep rules rewrite calls within limits; a rule that cannot be applied is reported."""

import time
from pathlib import Path

import pytest

import paccel.rename.rewrite as module
from paccel.catalog.metadata import Rewrite
from paccel.files.tree import File
from paccel.rename.rewrite import Rewritten, concerns, find_program, rewrite

RULE = "id: swap\nlanguage: python\nrule:\n  pattern: swap($A, $B)\nfix: swap($B, $A)\n"
needs_program = pytest.mark.skipif(find_program() is None, reason="needs paccel[rewrite]")


def rewritten(text: str, *rules: str) -> Rewritten:
    return rewrite({"a.py": File(text.encode()), "b.txt": File(b"swap(1, 2)")}, [Rewrite(rule) for rule in rules])


@needs_program
def test_a_rule_rewrites_calls_and_nothing_else() -> None:
    done = rewritten("\ufeffé = swap( 1,\r\n  (2) )  # swap(1, 2)\r\nx = 'swap(1, 2)'\r\n", RULE)
    assert done.files["a.py"].content.decode() == "\ufeffé = swap((2), 1)  # swap(1, 2)\r\nx = 'swap(1, 2)'\r\n"
    assert done.files["b.txt"].content == b"swap(1, 2)"
    assert [(edit.path, edit.line) for edit in done.edits] == [("a.py", 1)]
    assert done.skipped == ()


@needs_program
def test_of_calls_in_calls_the_outermost_is_rewritten() -> None:
    assert rewritten("swap(swap(1, 2), 3)\n", RULE).files["a.py"].content == b"swap(3, swap(1, 2))\n"


@needs_program
def test_rules_are_applied_in_their_order_in_a_folder_of_no_configuration(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "sgconfig.yml").write_text("ruleDirs: [nowhere]\ncustomLanguages: {evil: {libraryPath: evil.so}}\n")
    monkeypatch.chdir(tmp_path)
    again = RULE.replace("pattern: swap($A, $B)", "pattern: swap(2, 1)").replace("fix: swap($B, $A)", "fix: done()")
    assert rewritten("swap(1, 2)\n", RULE, again).files["a.py"].content == b"done()\n"


@needs_program
@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("id: [", "ast-grep rejects it"),
        (RULE.replace("pattern", "patern"), "unknown field"),
        (RULE.replace("fix: swap($B, $A)\n", ""), "it has no `fix`"),
        (RULE.replace("fix: swap($B, $A)", "fix: 'swap('"), "would not be valid Python"),
        (RULE.replace("fix: swap($B, $A)", f"fix: {'x' * 60000}+$A+{'x' * 60000}"), "would grow too large"),
        ("id: a\nlanguage: python\nrule: {kind: identifier, regex: '((a{1,500}){1,500}){1,500}'}\nfix: b\n", "ast-grep rejects it"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_applied_is_named_and_changes_nothing(rule: str, reason: str) -> None:
    done = rewritten("swap(1, 2)\n", rule)
    assert done.files["a.py"].content == b"swap(1, 2)\n"
    assert done.edits == ()
    assert len(done.skipped) == 1
    assert reason in done.skipped[0]


@needs_program
def test_a_regular_expression_that_backtracks_elsewhere_takes_no_time() -> None:
    rule = "id: a\nlanguage: python\nrule: {kind: identifier, regex: '^(a|a)*b$'}\nfix: c\n"
    started = time.monotonic()
    assert rewritten("a" * 5000 + "\n", rule).files["a.py"].content == b"a" * 5000 + b"\n"
    assert time.monotonic() - started < 20


@pytest.mark.skipif(not Path("/bin/sleep").exists(), reason="needs a program that takes long")
@pytest.mark.slow
def test_a_program_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = tmp_path / "ast-grep"
    endless.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    endless.chmod(0o755)
    monkeypatch.setattr(module, "find_program", lambda: endless)
    monkeypatch.setattr(module, "SECONDS", 1)
    started = time.monotonic()
    done = rewritten("swap(1, 2)\n", RULE, RULE)
    assert time.monotonic() - started < 20
    assert done.files["a.py"].content == b"swap(1, 2)\n"
    assert [reason.rpartition(": ")[2] for reason in done.skipped] == ["the rules took longer than 1 s"]


def test_without_the_program_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_program", lambda: None)
    done = rewritten("swap(1, 2)\n", RULE)
    assert done.files["a.py"].content == b"swap(1, 2)\n"
    assert "pip install 'paccel[rewrite]'" in done.skipped[0]


@pytest.mark.parametrize(
    ("text", "own", "found"),
    [
        (b"swap(x.size, 1)\n", {b"swap"}, True),
        (b"swap(x.size, 1)\n", {b"other"}, False),
        (b"swap(x.length, 1)\n", {b"swap"}, False),
    ],
)
def test_a_rule_concerns_a_user_who_wrote_its_words(text: bytes, own: set[bytes], found: bool) -> None:
    rule = RULE.replace("swap($A, $B)", "swap($A.size, $B)", 1)
    assert concerns(rule, {"a.py": File(text)}, {"a.py": own}) is found
    assert concerns(rule.replace("pattern", "kind"), {"a.py": File(text)}, {"a.py": own})
