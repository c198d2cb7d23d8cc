"""Documents that are valid for a JSON schema, drawn from a random generator.

Covers the schemas that LLM functions declare: types and lists of types, `enum`,
`const`, `anyOf`/`oneOf`, `$ref` to `$defs`, objects, arrays with bounds, numbers with
bounds, and strings with a length or a well-known `format`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

_WORDS = (
    "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "harbor",
    "island", "juniper", "kettle", "lantern", "meadow", "nickel", "orchard", "pebble",
)  # fmt: skip


def _date(rng: random.Random) -> str:
    return f"{rng.randint(1970, 2037)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _time(rng: random.Random) -> str:
    return f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}"


def _uuid(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


_FORMATS: Mapping[str, Callable[[random.Random], str]] = {
    "date": _date,
    "time": _time,
    "date-time": lambda rng: f"{_date(rng)}T{_time(rng)}",
    "duration": lambda rng: f"P{rng.randint(1, 30)}D",
    "uuid": _uuid,
    "email": lambda rng: f"{rng.choice(_WORDS)}@example.com",
    "uri": lambda rng: f"https://example.com/{rng.choice(_WORDS)}",
}


def document(schema: Mapping[str, Any], rng: random.Random) -> Any:
    """Return a document that is valid for the schema.

    Raises `ValueError` for a keyword whose meaning it does not know how to keep.
    """
    return _Draw(schema, rng).value(schema)


class _Draw:
    def __init__(self, root: Mapping[str, Any], rng: random.Random) -> None:
        self._root = root
        self._rng = rng

    def value(self, schema: Mapping[str, Any]) -> Any:
        """Draw one value for a schema or a part of one."""
        if "$ref" in schema:
            return self.value(self._resolve(schema["$ref"]))
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._rng.choice(schema["enum"])
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self.value(self._rng.choice(schema[keyword]))
        kind = schema.get("type", "string")
        if isinstance(kind, list):
            kind = self._rng.choice(kind)
        draw: Callable[[Mapping[str, Any]], Any] | None = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda _: self._rng.random() < 0.5,
            "null": lambda _: None,
        }.get(kind)
        if draw is None:
            raise ValueError(f"JSON schema type {kind!r} is not one that a document can have")
        return draw(schema)

    def _resolve(self, reference: str) -> Mapping[str, Any]:
        part: Any = self._root
        for key in reference.removeprefix("#").split("/")[1:]:
            part = part[key.replace("~1", "/").replace("~0", "~")]
        found: Mapping[str, Any] = part
        return found

    def _object(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        drawn = {name: self.value(part) for name, part in schema.get("properties", {}).items()}
        free = schema.get("additionalProperties")
        if isinstance(free, Mapping):
            for number in range(schema.get("minProperties", 1)):
                drawn[f"{self._rng.choice(_WORDS)}{number}"] = self.value(free)
        return drawn

    def _array(self, schema: Mapping[str, Any]) -> list[Any]:
        low = schema.get("minItems", 0)
        length = self._rng.randint(low, min(schema.get("maxItems", low + 3), low + 3))
        item = schema.get("items", {"type": "string"})
        drawn: list[Any] = []
        # A set of distinct items may be smaller than the length: stop after some tries.
        for _ in range(length * 8):
            if len(drawn) == length:
                break
            candidate = self.value(item)
            if not schema.get("uniqueItems") or candidate not in drawn:
                drawn.append(candidate)
        return drawn

    def _string(self, schema: Mapping[str, Any]) -> str:
        if "format" in schema and schema["format"] in _FORMATS:
            return _FORMATS[schema["format"]](self._rng)
        if "pattern" in schema:
            raise ValueError(
                f"cannot draw a text for the pattern {schema['pattern']!r}: "
                "give FakeProvider an `answer` function"
            )
        text = f"{self._rng.choice(_WORDS)} {self._rng.choice(_WORDS)}"
        text = text.ljust(schema.get("minLength", 0), "x")
        return text[: schema.get("maxLength", len(text))]

    def _integer(self, schema: Mapping[str, Any]) -> int:
        low, high = _bounds(schema, step=1)
        return self._rng.randint(int(low), int(high))

    def _number(self, schema: Mapping[str, Any]) -> float:
        low, high = _bounds(schema, step=0.01)
        drawn = round(low + (high - low) * self._rng.random(), 2)
        return min(max(drawn, low), high)


def _bounds(schema: Mapping[str, Any], step: float) -> tuple[float, float]:
    low = schema.get("minimum")
    high = schema.get("maximum")
    if low is None and "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + step
    if high is None and "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - step
    if low is None:
        low = min(0, high) if high is not None else 0
    if high is None:
        high = low + 100
    return low, high
