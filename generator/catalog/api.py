"""Names in Python code as `paccel.toml` writes them: `model:make_model`, like entry points."""

import keyword
import re
from typing import NamedTuple

from ..errors import TemplateError

_WORD = r"[^\W\d]\w*"
_NAME = re.compile(
    rf"(?P<module>{_WORD}(?:\.{_WORD})*):(?P<name>{_WORD})(?:\.(?P<member>{_WORD}))?(?:\((?P<parameter>{_WORD})\))?"
)


class ApiName(NamedTuple):
    """A name in a module, a member of a class, or a parameter.

    Attributes:
        module: The module's dotted name, as an import in the project writes it.
        name: A function, class or constant.
        member: A field, attribute or method of the class `name`; empty for none.
        parameter: A parameter of the function, the method, or the class's constructor; empty for none.
    """

    module: str
    name: str
    member: str = ""
    parameter: str = ""

    @classmethod
    def parse(cls, text: str) -> "ApiName":
        """Read `module:name`, `module:Class.member`, or one of them with `(parameter)`.

        Raises:
            TemplateError: The text is none of these.
        """
        found = _NAME.fullmatch(text)
        if found is None or any(keyword.iskeyword(word) for word in re.findall(r"\w+", text)):
            raise TemplateError(
                f"`{text}` is not the name of something in a module: write `module:name`, `module:Class.member`,"
                " `module:function(parameter)`"
            )
        return cls(**found.groupdict(default=""))

    @property
    def path(self) -> str:
        """The dotted path of the name or member, without the parameter."""
        return ".".join(part for part in (self.module, self.name, self.member) if part)

    @property
    def last(self) -> str:
        """The last word, which every use of the name contains."""
        return self.parameter or self.member or self.name

    def __str__(self) -> str:
        return f"{self.module}:{self.path[len(self.module) + 1 :]}" + f"({self.parameter})" * bool(self.parameter)


def parse_new_name(text: str, old: ApiName) -> ApiName:
    """Read the new name of `old`: one word, or `module:name` if it moved to another module.

    Raises:
        TemplateError: The text is neither, or equals the old name.
    """
    if ":" in text and not (old.member or old.parameter):
        new = ApiName.parse(text)
        if new.member or new.parameter:
            raise TemplateError(f"`{old}` is a name in a module, and `{text}` is not")
    elif text.isidentifier() and not keyword.iskeyword(text):
        new = old._replace(**{"parameter" if old.parameter else "member" if old.member else "name": text})
    else:
        raise TemplateError(
            f"`{text}` is not a new name for `{old}`: write one word"
            + ("" if old.member or old.parameter else ", or `module:name` if it moved to another module")
        )
    if new == old:
        raise TemplateError(f"`{old}` is renamed to itself")
    return new
