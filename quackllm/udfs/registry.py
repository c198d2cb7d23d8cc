"""The functions that SQL may call, and how a call is bound.

A function is found through the entry-point group `quackllm.functions`; quackllm's
own come through the same door as those of other packages.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from difflib import get_close_matches
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any
from uuid import UUID

from quackllm.errors import BindError, InvalidAnswer, QuackLLMError
from quackllm.udfs.answers import canonical_text
from quackllm.udfs.base import (
    Binding,
    Call,
    Declaration,
    Embedding,
    Function,
    Kind,
    Option,
    Parameter,
)
from quackllm.udfs.options import SHARED_OPTIONS, check_options, shown
from quackllm.udfs.prompt import references
from quackllm.udfs.type_parser import result_type

ENTRY_POINTS = "quackllm.functions"


class Functions:
    """An immutable set of functions, by name and alias, whatever the case."""

    def __init__(self, functions: Iterable[Function]) -> None:
        """Collect the functions. Raises `QuackLLMError` when two share a name."""
        self._functions = tuple(functions)
        by_name: dict[str, Function] = {}
        for function in self._functions:
            for name in (function.name, *function.aliases):
                other = by_name.setdefault(name.lower(), function)
                if other is not function:
                    raise QuackLLMError(
                        f"two functions are called {name.upper()}: {other.signature()} "
                        f"and {function.signature()}"
                    )
        self._by_name: Mapping[str, Function] = MappingProxyType(by_name)

    @classmethod
    def load(cls) -> Functions:
        """Load every function that an installed package declares, by name.

        Raises `QuackLLMError` when an entry point is not a `Function`.
        """
        found = []
        for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda each: each.name):
            function = point.load()
            if not isinstance(function, Function):
                raise QuackLLMError(
                    f"entry point {point.name} = {point.value} of {ENTRY_POINTS} is a "
                    f"{type(function).__name__}, not a quackllm.udfs.base.Function"
                )
            found.append(function)
        return cls(found)

    def __iter__(self) -> Iterator[Function]:
        """Iterate over the functions; aliases do not count."""
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    @property
    def names(self) -> frozenset[str]:
        """Every name and alias, in lower case."""
        return frozenset(self._by_name)

    def get(self, name: str) -> Function | None:
        """Return the function of a name or alias, None when there is none."""
        return self._by_name.get(name.lower())

    def suggest(self, name: str) -> str | None:
        """Return the closest name for an unknown one that looks like ours, else None."""
        lowered = name.lower()
        if not lowered.startswith(("llm", "ai_")) or lowered in self._by_name:
            return None
        close = get_close_matches(lowered, self._by_name, n=1, cutoff=0.7)
        return close[0].upper() if close else None

    def bind(
        self,
        name: str,
        constants: Mapping[str, Any],
        options: Mapping[str, Any],
        fields: Sequence[str],
    ) -> Call:
        """Bind a call.

        name: the function as it was written, an alias or not.
        constants: by parameter name, the values of CONSTANT parameters and of those
            PROMPT parameters that are constant, as DuckDB folds them.
        options: by name as written, likewise.
        fields: names of the data arguments in call order; a PROMPT parameter that is
            not constant is a field under the parameter's name.

        Raises `BindError`, opened as DuckDB's own and by the name of the function.
        """
        function = self.get(name)
        if function is None:
            close = self.suggest(name)
            hint = f", did you mean {close}?" if close else ""
            raise BindError(f"Binder Error: unknown function {name.upper()}{hint}")
        try:
            return _bind(function, constants, options, tuple(fields))
        except BindError as error:
            raise BindError(f"Binder Error: {name.upper()}: {error}") from None

    def from_spec(self, spec: str) -> Call:
        """Bind the call that a `Call.spec` describes again.

        Raises `BindError` when the function is gone or has another version.
        """
        loaded = json.loads(spec)
        function = self.get(loaded["function"])
        if function is not None and function.version != loaded["version"]:
            raise BindError(
                f"Binder Error: the call was bound by version {loaded['version']} of "
                f"{function.name.upper()}, this is version {function.version}"
            )
        return self.bind(
            loaded["function"], loaded["constants"], loaded["options"], loaded["fields"]
        )


def options_of(function: Function) -> tuple[Option, ...]:
    """Return every option of a function: its own, then the shared ones."""
    return (*function.options, *SHARED_OPTIONS)


def _bind(
    function: Function,
    constants: Mapping[str, Any],
    options: Mapping[str, Any],
    fields: tuple[str, ...],
) -> Call:
    known = options_of(function)
    folded = {name: _folded(name, value) for name, value in options.items()}
    checked = check_options(folded, known)
    fixed = {name: _folded(name, value) for name, value in constants.items()}
    _check_arguments(function, fixed, fields)
    binding = Binding(MappingProxyType(fixed), MappingProxyType(checked), fields)
    declaration = function.declare(binding)
    if function.joint != (declaration.joint is not None):
        raise TypeError(f"{function.name.upper()} and its declaration differ in `joint`")
    return _call(function, binding, declaration, known)


def _call(
    function: Function, binding: Binding, declaration: Declaration, known: Sequence[Option]
) -> Call:
    """Put the bound call together with its two texts.

    Constants keep the order of their keys: the order of labels and of the fields of
    a type is part of what is asked.
    """
    options = binding.options
    max_tokens = options["max_tokens"] or declaration.max_tokens
    question = {option.name for option in known if option.affects_answer} - {"model"}
    head = {"function": function.name, "version": function.version}
    fixed = {name: binding.constants[name] for name in sorted(binding.constants)}
    given = {name: options[name] for name in sorted(options) if options[name] is not None}
    asked = {name: value for name, value in given.items() if name in question}
    spec = {**head, "constants": fixed, "options": given, "fields": binding.fields}
    identity = {
        **head,
        "constants": fixed,
        "options": dict(sorted({**asked, "max_tokens": max_tokens}.items())),
        "fields": _names_that_count(declaration, binding.fields),
    }
    return Call(
        function=function.name,
        version=function.version,
        fields=binding.fields,
        declaration=declaration,
        model=options["model"],
        temperature=options["temperature"],
        seed=options["seed"],
        max_tokens=max_tokens,
        on_error=options["on_error"],
        default=_default(declaration, options),
        on_budget=options["on_budget"],
        cache=options["cache"],
        pin=_pinned(options["pin"] or (), binding.fields),
        spec=_compact(spec),
        identity=_compact(identity),
    )


def _names_that_count(declaration: Declaration, fields: tuple[str, ...]) -> list[str]:
    """Return the names of fields as far as the model is shown them.

    Of a single text to be embedded it sees no name: the same text is the same question,
    whatever column it stands in.
    """
    if isinstance(declaration.answer, Embedding) and len(fields) == 1:
        return ["text"]
    return sorted(fields)


def _default(declaration: Declaration, options: Mapping[str, Any]) -> str | None:
    """Return the canonical text of the option `default_value`.

    Raises `BindError` for a value that the function cannot return, and where a failure is
    to stop the statement.
    """
    value = options["default_value"]
    if value is None or declaration.answer == Embedding():  # bound again, its length known
        return None
    if options["on_error"] == "error":
        raise BindError("options default_value and on_error := 'error' contradict each other")
    type_ = result_type(declaration)
    try:
        return canonical_text(type_, type_.canonical(value, "default_value"))
    except InvalidAnswer as error:
        raise BindError(f"option {error}; the function returns {declaration.returns}") from None


def _pinned(names: Sequence[str], fields: Sequence[str]) -> tuple[str, ...]:
    """Return the pinned fields as the call names them. Raises `BindError` for another name."""
    by_name = {field.casefold(): field for field in fields}
    for name in names:
        if name.casefold() not in by_name:
            raise BindError(
                f"option pin names {shown(name)}, which is not an argument of the call. "
                f"Arguments: {', '.join(fields)}"
            )
    return tuple(dict.fromkeys(by_name[name.casefold()] for name in names))


def _compact(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _check_arguments(
    function: Function, constants: Mapping[str, Any], fields: tuple[str, ...]
) -> None:
    """Check that the call has the arguments that the signature asks for."""
    for parameter in function.parameters:
        _check_constant(parameter, constants, fields, function.signature())
    unknown = set(constants) - {parameter.name for parameter in function.parameters}
    if unknown:
        raise BindError(f"no parameter {sorted(unknown)[0]}: {function.signature()}")
    twice = [name for at, name in enumerate(fields) if name in fields[:at]]
    if twice:
        raise BindError(
            f"two arguments are called {twice[0]}; name one by a struct literal: "
            f"{{'another name': {twice[0]}}}"
        )
    prompts = {each.name for each in function.parameters if each.kind is Kind.PROMPT}
    data = set(fields) - (prompts - set(constants))
    takes = [each for each in function.parameters if each.kind in (Kind.VALUE, Kind.VALUES)]
    needed = [each for each in takes if each.required]
    if needed and not data:
        raise BindError(
            f"data arguments are missing ({needed[0].name}: {needed[0].doc}): "
            f"{function.signature()}{_how_to_give_data(function, constants, fields)}"
        )
    if data and not takes:
        raise BindError(f"too many arguments: {function.signature()}")


def _how_to_give_data(
    function: Function, constants: Mapping[str, Any], fields: tuple[str, ...]
) -> str:
    """Say how a call without data would have some."""
    prompt = constants.get("prompt")
    names = references(prompt) if isinstance(prompt, str) else []
    if names:
        named = ", ".join(f"{{{name}}}" for name in names)
        return f". The prompt names {named}, but brings no data: add {', '.join(names)} behind it"
    if fields:
        return (
            ". The prompt differs from row to row: write the question as one text, and the "
            "columns that it is about behind it"
        )
    return f". Example: {function.example}"


def _check_constant(
    parameter: Parameter, constants: Mapping[str, Any], fields: tuple[str, ...], signature: str
) -> None:
    """Check that a parameter is there that has to be, and that a constant prompt is a text."""
    name, kind = parameter.name, parameter.kind
    if name in constants:
        if kind is Kind.PROMPT and not _is_text(constants[name]):
            empty = " that is not empty" if isinstance(constants[name], str) else ""
            raise BindError(f"{name} must be a text{empty}, not {shown(constants[name])}")
    elif kind is Kind.PROMPT and parameter.required and name not in fields:
        raise BindError(f"{name} is missing: {signature}")
    elif kind is Kind.CONSTANT and parameter.required:
        raise BindError(f"{name} is missing or not a constant: {signature}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _folded(name: str, value: Any) -> Any:
    """Return a constant as JSON has it, so that a call bound from its spec is the same."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (float, Decimal)):
        if not math.isfinite(value):
            raise BindError(f"{name} must be a finite number, not {value}")
        return int(value) if value == int(value) and isinstance(value, Decimal) else float(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_folded(name, item) for item in value]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise BindError(f"{name} must have texts as keys, not {shown(key)}")
        return {key: _folded(name, item) for key, item in value.items()}
    raise BindError(f"{name} cannot be a {type(value).__name__}")
