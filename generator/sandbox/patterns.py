"""Regular expressions of a template, matched within a time limit.

Some expressions take forever on some texts, and Python's `re` cannot be interrupted, so another process does the matching.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import TemplateError

SECONDS = 5.0

_SEARCH = """
import json, re, sys
pattern, texts, whole = json.load(sys.stdin)
find = getattr(re.compile(pattern), "fullmatch" if whole else "search")
json.dump([match and match.group(0) for match in map(find, texts)], sys.stdout)
"""

_CALL = """
import importlib, json, sys
module, name, arguments, options = json.load(sys.stdin)
json.dump(getattr(importlib.import_module(module), name)(*arguments, **options), sys.stdout)
"""


def search(pattern: str, texts: Sequence[str], where: str, *, whole: bool = False) -> list[str | None]:
    """Return the first match in each text, or None.

    Args:
        pattern: A regular expression.
        texts: The texts.
        where: The place of the pattern, for errors.
        whole: Whether the pattern must match the whole text.

    Raises:
        TemplateError: The pattern is not valid, or takes too long.
    """
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise TemplateError(f"{where} is not a regular expression: {error}") from error
    found: list[str | None] = _run(["-S", "-c", _SEARCH], [pattern, texts, whole], where)
    return found


def call(module: str, name: str, arguments: Sequence[Any], options: Mapping[str, Any], where: str) -> str:
    """Call a function of an installed module with a template's regular expression, and return its result as text.

    Raises:
        TemplateError: The call fails, or takes too long.
    """
    return str(_run(["-c", _CALL], [module, name, arguments, options], where))


def _run(program: list[str], data: Any, where: str) -> Any:
    try:
        result = subprocess.run(
            [sys.executable, "-I", *program],
            input=json.dumps(data).encode(),  # not as arguments, which other users of the machine can see
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
        return json.loads(result.stdout)
    except subprocess.TimeoutExpired as error:
        raise TemplateError(f"{where} takes more than {SECONDS:g} seconds") from error
    except (OSError, ValueError, TypeError, subprocess.CalledProcessError) as error:
        raise TemplateError(f"{where} cannot be used: {error}") from error
