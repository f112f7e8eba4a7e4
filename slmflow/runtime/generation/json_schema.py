"""Prepare a JSON schema for guidance: check and bound it, and find how long closing takes."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import reject

Schema = Mapping[str, Any]

# Where a schema has other schemas: one, a list of them, or one for each name.
_ONE = (
    *("items", "additionalItems", "contains", "unevaluatedItems"),
    *("additionalProperties", "propertyNames", "unevaluatedProperties"),
    *("not", "if", "then", "else"),
)
_LIST = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")

# What may add properties to an object from beside its own, which then must stay open.
_COMBINING = (
    *("allOf", "anyOf", "oneOf", "not", "if", "$ref", "$dynamicRef", "dependentSchemas"),
    *("patternProperties", "unevaluatedProperties"),
)

# llguidance reads them as float64 and takes no lower minimum.
_INT64 = (-(2**63) + 2**10, 2**63 - 1)
_LIMITS = (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))

# The grammar compiler writes one rule per item a list may have: a million take gigabytes.
_MAX_ITEMS = 10_000

# What `longest_closing` assumes of a text with a pattern or a format.
_PATTERN_CHARACTERS = 32

# Closing that takes longer is not planned for.
_MAX_CLOSING_CHARACTERS = 20_000


def reject_long_lists(schema: Schema, param: str) -> None:
    """Raise MlflowException (HTTP 400), which names the field `param`, for too many items."""
    for each in _walk(schema):
        for key in ("minItems", "maxItems"):
            if isinstance(count := each.get(key), int | float) and count > _MAX_ITEMS:
                limit = f"give at most {_MAX_ITEMS:,}, or leave it out"
                reject(f"{param}: {key}={count}: {limit}", param=param)


def bound(schema: Schema) -> dict[str, Any]:
    """Return a schema whose integers and objects end.

    Integers fit int64, and objects have the properties that they list, and no others. What says
    something else itself stays as it is, and so does an object that lists none. All objects do if
    the schema combines lists of properties, whose parts may not exclude each other's.
    """
    closes_objects = not any(_combines(each) for each in _walk(schema))
    return dict(_bound(schema, closes_objects))


def longest_closing(schema: Schema) -> str:
    """Return about the longest text that completes a document of the schema, wherever it is.

    Strings and numbers are as short as they may be, and lists too; one property that is not
    required may be open.
    """
    return _Closings(schema).of(schema)


def _walk(schema: Any) -> Iterator[Schema]:
    """Yield a schema and those in it, but no values such as those of `enum`."""
    remaining = [schema]
    while remaining:
        if isinstance(each := remaining.pop(), Mapping):
            yield each
            remaining.extend(_parts(each))


def _parts(schema: Schema) -> Iterator[Any]:
    for key in _ONE:
        yield schema.get(key)
    for key in _LIST:
        if isinstance(schema.get(key), list):
            yield from schema[key]
    for key in _NAMED:
        if isinstance(schema.get(key), Mapping):
            yield from schema[key].values()


def _combines(schema: Schema) -> bool:
    if isinstance(parts := schema.get("allOf"), list) and len(parts) > 1:
        return True
    return "properties" in schema and any(key in schema for key in _COMBINING)


def _bound(schema: Any, closes_objects: bool) -> Any:
    if not isinstance(schema, Mapping):
        return schema

    def inner(each: Any) -> Any:
        return _bound(each, closes_objects)

    bound = dict(schema)
    for key in _ONE:
        if key in bound:
            bound[key] = inner(bound[key])
    for key in _LIST:
        if isinstance(bound.get(key), list):
            bound[key] = [inner(each) for each in bound[key]]
    for key in _NAMED:
        if isinstance(bound.get(key), Mapping):
            bound[key] = {name: inner(each) for name, each in bound[key].items()}
    if "integer" in _types(schema):
        for limit, (key, other) in zip(_INT64, _LIMITS, strict=True):
            if key not in schema and other not in schema:
                bound[key] = limit
    if closes_objects and schema.get("properties"):
        bound.setdefault("additionalProperties", False)
    return bound


def _types(schema: Schema) -> list[Any]:
    """Return the types that a schema names."""
    types = schema.get("type")
    return types if isinstance(types, list) else [types]


class _Closings:
    """The closings of a document's schemas. A schema inside itself is open once."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._referenced: dict[str, str] = {}

    def of(self, schema: Any) -> str:
        return self._of(schema)[:_MAX_CLOSING_CHARACTERS]

    def _of(self, schema: Any) -> str:
        if not isinstance(schema, Mapping):
            return '""'
        if isinstance(reference := schema.get("$ref"), str):
            return self._of_reference(reference)
        if "const" in schema:
            return json.dumps(schema["const"], ensure_ascii=False)
        if isinstance(values := schema.get("enum"), list):
            return _longest(json.dumps(value, ensure_ascii=False) for value in values)
        choices = (schema.get("anyOf"), schema.get("oneOf"))
        parts = schema.get("allOf")
        return self._of_type(schema) + "".join(
            [
                *(_longest(map(self.of, each)) for each in choices if isinstance(each, list)),
                *(map(self.of, parts) if isinstance(parts, list) else ()),
            ]
        )

    def _of_reference(self, reference: str) -> str:
        if reference not in self._referenced:
            self._referenced[reference] = ""
            self._referenced[reference] = self.of(_resolve(reference, self._root))
        return self._referenced[reference]

    def _of_type(self, schema: Schema) -> str:
        """Return the longest closing of the types that a schema names or implies."""
        kinds = _types(schema)
        texts = [""]
        if "object" in kinds or "properties" in schema:
            texts.append(self._of_object(schema))
        if "array" in kinds or "items" in schema or "prefixItems" in schema:
            texts.append(self._of_array(schema))
        if "string" in kinds:
            extra = _PATTERN_CHARACTERS if "pattern" in schema or "format" in schema else 0
            texts.append(f'"{"x" * (_count(schema, "minLength") + extra)}"')
        if "integer" in kinds or "number" in kinds:
            texts += [str(schema.get(key, 0)) for key in ("minimum", "maximum")]
        if "boolean" in kinds or "null" in kinds:
            texts.append("false")
        return _longest(texts)

    def _of_object(self, schema: Schema) -> str:
        properties, required = schema.get("properties"), schema.get("required")
        properties = properties if isinstance(properties, Mapping) else {}
        required = required if isinstance(required, list) else []
        names = [name for name in [*properties, *required] if isinstance(name, str)]
        members = {name: f"{json.dumps(name)}:{self.of(properties.get(name))}," for name in names}
        needed = "".join(text for name, text in members.items() if name in required)
        return f"{{{needed}{_longest(t for name, t in members.items() if name not in required)}}}"

    def _of_array(self, schema: Schema) -> str:
        first = schema.get("prefixItems")
        items = [self.of(each) for each in first] if isinstance(first, list) else []
        further = self.of(schema.get("items"))
        count = max(1, _count(schema, "minItems") - len(items))
        most = _MAX_CLOSING_CHARACTERS // len(further) + 1 if further else 1
        return f"[{','.join([*items, *[further] * min(count, most)])}]"


def _resolve(reference: str, root: Schema) -> Any:
    """Return the schema at a JSON pointer of this document, None if there is none."""
    found: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _count(schema: Schema, key: str) -> int:
    value = schema.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return max(0, min(value, _MAX_CLOSING_CHARACTERS))


def _longest(texts: Iterable[str]) -> str:
    return max(texts, key=len, default="")
