"""From parsed JSON or TOML to checked dataclasses: the one place where types are checked.

In: text or plain values from a file that anybody may have written. Out: an instance of a
dataclass whose fields have the types that their annotations name, or one line that says which
value is wrong and what is expected. Ranges are the dataclass's own business: what its
`__post_init__` raises as a `ValueError` becomes such a line, too.

Written here, because `umt --help` and TAB read model headers: importing pydantic takes 0.3 s,
which is as long as all of that may take.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, cast, get_args, get_origin
from typing import get_type_hints as resolve_annotations

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Mapping

    from core.errors import UmtError

T = TypeVar("T")

MAX_DEPTH = 32  # of nested objects and lists; more is an attack, or damage
MAX_INTEGER = 2**63 - 1
_SHOWN_CHARACTERS = 60


def parse_json(text: str | bytes, prefix: str, *, error: type[UmtError]) -> object:
    """Parse JSON, strictly.

    Args:
        text: The JSON; bytes are UTF-8.
        prefix: What messages begin with, for example "data/piano/domain.json: ".
        error: What is raised.

    Returns:
        Plain values: finite numbers, at most `MAX_DEPTH` levels deep.

    Raises:
        UmtError: As `error`: no JSON, NaN or infinity, a number of thousands of digits, or
            too many levels.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as cause:
        raise error(f"{prefix}not valid JSON ({_first_line(cause)})") from cause
    check_plain(values, prefix, error=error)
    return cast("object", values)


def check_plain(values: object, prefix: str, *, error: type[UmtError]) -> None:
    """Check that plain values are not nested too deep and that their numbers are finite.

    Raises:
        UmtError: As `error`.
    """
    level = [values]
    for _ in range(MAX_DEPTH):
        if not level:
            return
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list | tuple):
                below += value
            elif type(value) in (int, float) and not _is_usable(value):
                raise error(f"{prefix}{shortened(value)}: expected a finite number of 64 bits")
        level = below
    if level:
        raise error(f"{prefix}nested more than {MAX_DEPTH} levels deep")


def build(
    kind: type[T],
    values: object,
    prefix: str,
    *,
    error: type[UmtError],
    ignored: Collection[str] = (),
    ignores_unknown: bool = False,
) -> T:
    """Build a dataclass from plain values, and check every one of them.

    Annotations may be bool, int, float, str, None, Literal, unions of these, tuples, lists,
    dicts with string keys, other dataclasses, and Any for what is checked elsewhere. An int
    passes where a float is wanted, a list where a tuple is wanted, and nothing else is converted.
    Annotations are resolved when the class is first used: what they name has to be imported at run
    time.

    Args:
        kind: The dataclass.
        values: A mapping from the fields' names.
        prefix: What messages begin with, for example "data/piano/domain.json: ".
        error: What is raised.
        ignored: Keys that are accepted and not used, such as those of older versions.
        ignores_unknown: Whether all unknown keys are ignored, at every level.

    Raises:
        UmtError: As `error`: a key is missing or unknown, or a value is of another type.
    """
    builder = _Builder(prefix, error, ignores_unknown=ignores_unknown)
    return cast("T", builder.dataclass(kind, values, "", ignored))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question for the end of a message where a known name is close; else nothing.

    Example:
        >>> did_you_mean("paino", ["organ", "piano"])
        "; did you mean 'piano'?"
        >>> did_you_mean("flute", ["organ", "piano"])
        ''
    """
    folded = {own.casefold(): own for own in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def shortened(value: object) -> str:
    """Return a value as messages show it: in one line, and not too long."""
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "a huge integer"  # Python refuses to print more than 4,300 digits
    if isinstance(value, dict | list | tuple) and len(value) > 4:
        return f"{len(value)} values"
    try:
        text = repr(value).replace("\n", " ")
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


class _Builder:
    """Walks through annotations and values side by side."""

    def __init__(self, prefix: str, error: type[UmtError], *, ignores_unknown: bool) -> None:
        self.prefix = prefix
        self.error = error
        self.ignores_unknown = ignores_unknown

    def dataclass(
        self, kind: type[Any], values: object, path: str, ignored: Collection[str] = ()
    ) -> object:
        place = path or "the whole"
        if not isinstance(values, dict):
            raise self._wrong(place, values, "named values")
        hints = _hints(cast("Hashable", kind))
        for key in values:
            if key not in hints and not self.ignores_unknown and key not in ignored:
                inside = f" in {path}" if path else ""
                known = ", ".join(sorted(hints))
                raise self.error(
                    f"{self.prefix}unknown key {shortened(key)}{inside}; known: {known}"
                )
        for item in dataclasses.fields(kind):
            has_default = (
                item.default is not dataclasses.MISSING
                or item.default_factory is not dataclasses.MISSING
            )
            if item.init and not has_default and item.name not in values:
                raise self.error(f"{self.prefix}{_join(path, item.name)} is missing")
        checked = {
            name: self.value(hint, values[name], _join(path, name))
            for name, hint in hints.items()
            if name in values
        }
        try:
            return cast("object", kind(**checked))
        except ValueError as cause:
            raise self.error(f"{self.prefix}{path}{': ' if path else ''}{cause}") from cause

    def value(self, hint: Any, value: object, path: str) -> object:
        """Return the value as its annotation wants it.

        Args:
            hint: The annotation.
            value: The value.
            path: How messages call it, for example "tracks[3].file".

        Raises:
            UmtError: It is of another type.
        """
        if hint is Any or hint is object:
            return value
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in (Union, types.UnionType):
            return self._union(arguments, value, path)
        if dataclasses.is_dataclass(hint):
            return self.dataclass(cast("type[Any]", hint), value, path)
        if origin is dict and isinstance(value, dict) and all(isinstance(k, str) for k in value):
            return {
                key: self.value(arguments[1], own, _join(path, key)) for key, own in value.items()
            }
        if origin in (tuple, list) and isinstance(value, list | tuple):
            return self._sequence(origin, arguments, value, path)
        if origin is Literal:
            fits = any(type(value) is type(own) and value == own for own in arguments)
        else:
            fits = hint in _SCALARS and _SCALARS[hint](value)
        if not fits:
            raise self._wrong(path, value, _expected(hint))
        return float(cast("float", value)) if hint is float else value

    def _sequence(
        self, kind: type, arguments: tuple[Any, ...], value: list[Any] | tuple[Any, ...], path: str
    ) -> object:
        if kind is list or arguments[1:] == (...,):
            hints = [arguments[0]] * len(value)
        else:
            hints = list(arguments)
        if len(hints) != len(value):
            raise self._wrong(path, value, f"{len(hints)} values")
        return kind(
            self.value(hint, own, f"{path}[{index}]")
            for index, (hint, own) in enumerate(zip(hints, value, strict=True))
        )

    def _union(self, arguments: tuple[Any, ...], value: object, path: str) -> object:
        # Not the first that fits: True would pass as a number, and 1 for a float turn into 1.0.
        exact = [hint for hint in arguments if type(value) is hint]
        for hint in (*exact, *arguments):
            try:
                return self.value(hint, value, path)
            except self.error:
                continue
        raise self._wrong(path, value, " or ".join(map(_expected, arguments)))

    def _wrong(self, path: str, value: object, expected: str) -> UmtError:
        return self.error(f"{self.prefix}{path} = {shortened(value)}: expected {expected}")


@cache
def _hints(kind: type[Any]) -> Mapping[str, Any]:
    """Return the annotations of a dataclass's fields that its constructor takes."""
    hints = resolve_annotations(kind)
    return {item.name: hints[item.name] for item in dataclasses.fields(kind) if item.init}


def _is_usable(value: object) -> bool:
    """Tell whether a value is a finite number that 64 bits hold; True and False are none."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return abs(value) <= MAX_INTEGER
    return isinstance(value, float) and math.isfinite(value)


_SCALARS: dict[Any, Callable[[object], bool]] = {
    bool: lambda value: isinstance(value, bool),
    int: lambda value: isinstance(value, int) and _is_usable(value),
    float: _is_usable,
    str: lambda value: isinstance(value, str),
    type(None): lambda value: value is None,
}


def _expected(hint: Any) -> str:
    """Return what messages call an annotation."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_expected, arguments))
    if origin is tuple and arguments[1:] != (...,):
        return f"{len(arguments)} values"
    if origin in (tuple, list):
        return "a list"
    names = {
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "a text",
        type(None): "nothing",
    }
    return names.get(hint, "named values")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
