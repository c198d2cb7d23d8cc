"""What an SQL function of quackllm is: a declaration, from which the engine does the rest.

A function never sees a row, a connection or a provider. It says how its arguments
are read (`parameters`), which options it takes, and, for one set of constant
arguments, what the model is told, what it may answer and how that becomes a value
(`Declaration`). The engine binds a call in SQL to a `Call`, collects the values of
its fields, and runs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from quackllm.errors import CallError

Answered = str | CallError | None
"""What became of a call; None for an SQL NULL, and for one that a budget left out."""


NOTHING = "null"
"""The JSON text of a field, or of an item of a list, that is NULL."""


class Kind(Enum):
    """How an argument is read."""

    CONSTANT = "constant"
    """Known when the statement is planned: a label list, a struct of types."""
    PROMPT = "prompt"
    """A constant text goes into the instruction; anything else becomes a field."""
    VALUE = "value"
    """One field of the row."""
    VALUES = "values"
    """Any number of fields of the row, the rest of the arguments."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a function, in call order."""

    name: str
    kind: Kind
    doc: str
    required: bool = True


@dataclass(frozen=True)
class Option:
    """A named option, written `name := value`.

    `check` takes the Python value that DuckDB folds the constant to and returns the
    value to use, of the kinds JSON has; it raises `ValueError` with what would be
    right. `affects_answer` is False for options that say how the engine deals with
    an answer and not what is asked.
    """

    name: str
    doc: str
    check: Callable[[Any], Any]
    default: Any = None
    affects_answer: bool = True


@dataclass(frozen=True)
class Choice:
    """The answer is exactly one of these texts."""

    labels: tuple[str, ...]


@dataclass(frozen=True)
class JsonAnswer:
    """The answer is a JSON document of this JSON schema (kept as text: hashable, exact)."""

    schema: str

    def as_dict(self) -> dict[str, Any]:
        """Return the schema as a dictionary, for a request body."""
        loaded: dict[str, Any] = json.loads(self.schema)
        return loaded


@dataclass(frozen=True)
class Number:
    """The answer is a bare number from `low` to `high`, as JSON writes it."""

    low: float
    high: float


@dataclass(frozen=True)
class FreeText:
    """The answer is any text."""


@dataclass(frozen=True)
class Embedding:
    """The answer is a vector of `dimensions` 32-bit numbers, as `vectors.packed` writes it.

    dimensions is None in a call of which only the model is known that it asks: how many
    numbers that model gives is found out when the call is bound.
    """

    dimensions: int | None = None


AnswerForm = Choice | Number | JsonAnswer | FreeText | Embedding


@dataclass(frozen=True)
class Declaration:
    """What a function is for one set of constants and options.

    instruction: the fixed text that opens every prompt of the call.
    returns: the DuckDB type of the SQL value, as DuckDB writes it.
    answer: what the model may say; providers constrain decoding to it where they can.
    parse: the model's text to the canonical text of the value: plain text for scalar
        types, a JSON document for JSON, lists, STRUCT and MAP, `vectors.packed` for a
        vector; None for an SQL NULL that the model may legitimately answer. Raises
        `InvalidAnswer`. What it returns always casts to `returns` in DuckDB, by the
        expression that `types.SqlType.cast_sql` writes (a vector: once it is unpacked).
    max_tokens: tokens that the longest sensible answer needs.
    reduction: of a call about a list that may be too long for one prompt, how it goes
        about it; `instruction` is then that of a list which is not.
    bounds: of a number that `parse` holds to a range, its lowest and highest value.
    rounds: of a call that is answered by rounds of other calls, how that goes; no prompt is
        then made of the declaration itself, and `parse` is not used.
    joint: of a call that is about all rows of its SELECT together, likewise.
    """

    instruction: str
    returns: str
    answer: AnswerForm
    parse: Callable[[str], str | None]
    max_tokens: int
    bounds: tuple[float, float] | None = None
    reduction: Reduction | None = None
    rounds: Rounds | None = None
    joint: Joint | None = None

    @property
    def is_one_call(self) -> bool:
        """Whether an answer is that of one call, and not made from those of several."""
        return self.reduction is None and self.rounds is None and self.joint is None


@dataclass(frozen=True)
class Reduction:
    """How a call about a list deals with a long one: in chunks whose answers are combined.

    part: the instruction for a chunk of the values. merge: the instruction for a list of
        answers to parts. tokens: estimated tokens of the values that one prompt shows.
    """

    part: str
    merge: str
    tokens: int


@dataclass(frozen=True)
class Inquiry:
    """A kind of calls that a call makes to be answered, in as many rounds as it needs.

    name: what tells it from other inquiries. Those of the same name, version, instruction,
        form of answer and fields are one question, whichever function asks it.
    fields: names of what a prompt shows.
    model: the model that is asked, None for that of the call itself.
    version: to be raised when the parser changes, as that of a `Function`.
    has_fallback: as of a `Call`.
    """

    name: str
    fields: tuple[str, ...]
    declaration: Declaration
    model: str | None = None
    version: int = 1
    has_fallback: bool = False


@dataclass(frozen=True)
class CallOf:
    """Calls of another function that a call makes to be answered: the same questions as in SQL.

    constants, options: as in `Binding`, the options that are given. fields: names of what a
    prompt shows.
    """

    function: str
    constants: Mapping[str, Any]
    options: Mapping[str, Any]
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """Which answers of a joint call are read: those of the first and of the last ranks.

    None is all of them. An answer that is not wanted may be None.
    """

    first: int | None = None
    last: int | None = None

    @property
    def is_all(self) -> bool:
        """Whether every answer is read."""
        return self.first is None and self.last is None


ALL = Wanted()
"""Every answer is read."""

Ask = Callable[[Inquiry | CallOf, Sequence[tuple[str, ...]]], Sequence[Answered]]
"""Makes the calls of one round: for each tuple of JSON texts, one per field, an answer.

Equal tuples are asked once, a tuple that was asked in an earlier round not again, and all
the others are in flight together."""


@dataclass(frozen=True)
class Round:
    """How many calls of one kind a call makes to be answered, and what each of them shows.

    calls: about how many. most: how many at most, whatever is answered.
    shown: tuples of arguments that a prompt shows on average.
    """

    inquiry: Inquiry | CallOf
    calls: int
    most: int
    shown: float = 1.0


@dataclass(frozen=True)
class Rounds:
    """How a call is answered by rounds of other calls, for each row by itself.

    solve: the answer of each argument tuple, as that of a `Joint`; which ones are given
        together decides how many calls are in flight at once, and nothing else.
    expected: which calls it makes for one tuple, by estimate.
    """

    solve: Callable[[Sequence[tuple[str, ...]], Ask], Sequence[Answered]]
    expected: Callable[[tuple[str, ...]], Sequence[Round]]


@dataclass(frozen=True)
class Joint:
    """How a call is answered whose answers depend on all rows of its SELECT, as a window's do.

    solve: the answer of each argument tuple, given all distinct ones: each the JSON texts of
        the fields in the order of the call, in no order that means anything and none of them
        all NULL. What it asks may depend on nothing but the set of them, so that the same
        rows make the same calls. The failure of a call is that of the tuples that cannot be
        answered without it.
    expected: which calls it makes for so many distinct tuples, by estimate.
    ranks: whether the answers are the ranks of the tuples, from 1 without gaps, so that
        the first and the last ones can be found without the others.
    """

    solve: Callable[[Sequence[tuple[str, ...]], Ask, Wanted], Sequence[Answered]]
    expected: Callable[[int, Wanted], Sequence[Round]]
    ranks: bool = False


@dataclass(frozen=True)
class Binding:
    """The constant side of a call: what `declare` receives.

    constants: values of CONSTANT parameters and of constant PROMPTs, by parameter
        name, as the Python objects DuckDB makes of them. A PROMPT that is not
        constant is absent here and is a field under its parameter's name.
    options: every option of the function, defaults filled in, checked.
    fields: names of the fields of the row, in the order of the call.
    """

    constants: Mapping[str, Any]
    options: Mapping[str, Any]
    fields: tuple[str, ...]


class OverSet(Enum):
    """How the formula of an aggregate takes the values of a group.

    `{name}` of its first parameter is a struct of their list; the options stand where it says
    `{options}`.
    """

    LIST = "list"
    """All values, in the order of an ORDER BY."""
    DISTINCT = "distinct"
    """Each value once, in an order that has no meaning. `{entries}` is a list of structs in the
    same order, whose `value` is the value."""


def no_declaration(binding: Binding) -> Declaration:
    """Stand in for the declaration of a function that is a formula of others."""
    raise TypeError(f"a formula makes no calls: {binding}")


@dataclass(frozen=True)
class Function:
    """One SQL function.

    version is part of the identity of an answer: raise it when the prompt or the
    parser changes, so that remembered answers of the older form are not used.

    formula: SQL that the call stands for, of other functions, with `{name}` for each
    argument; its options go to every function of ours in it. Such a function makes no
    calls of its own, and its `declare` is `no_declaration`.

    over_set: the formula is an aggregate, and this is what it is about.

    joint: every declaration of it is a `Joint`: it stands where a window function may, and
    is answered over the distinct argument tuples of the rows of its SELECT, those that WHERE,
    GROUP BY and HAVING leave.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    declare: Callable[[Binding], Declaration]
    example: str
    aliases: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    version: int = 1
    formula: str | None = None
    over_set: OverSet | None = None
    joint: bool = False

    def signature(self) -> str:
        """Return the call as a person would write it, for errors and for listings."""
        shown = []
        for parameter in self.parameters:
            text = parameter.name + (", ..." if parameter.kind is Kind.VALUES else "")
            shown.append(text if parameter.required else f"[{text}]")
        return f"{self.name.upper()}({', '.join(shown)})"


@dataclass(frozen=True)
class Call:
    """A bound call: everything that is fixed before a row is seen.

    Two calls are the same question when `identity` is equal; an answer is determined
    by `identity`, the model (the one that `model`, or the setting, resolves to) and
    the values of `fields`, by name. `spec` is all that is needed to bind the same call
    again, with the options that do not change an answer.
    """

    function: str
    version: int
    fields: tuple[str, ...]
    declaration: Declaration = field(compare=False, repr=False)
    model: str | None
    temperature: float
    seed: int | None
    max_tokens: int
    on_error: str | None
    default: str | None
    """Canonical text of the value that a failed call has, None for NULL."""
    on_budget: str | None
    cache: bool | None
    pin: tuple[str, ...]
    spec: str
    """JSON text of function, version, constants, options and fields: `Functions.from_spec`
    makes the call of it again."""
    identity: str
    """JSON text of what is asked: `spec` without the model and without options like
    on_error, with max_tokens as it is used, and the fields in alphabetical order."""
    has_fallback: bool = field(default=False, compare=False)
    """Whether other calls answer what this one cannot. Then its failure, or that a budget leaves
    it out, is none of a row, and is not recorded: those calls tell what became of their rows."""

    @property
    def embeds(self) -> bool:
        """Whether the answer is an embedding: a text goes alone, without an instruction."""
        return isinstance(self.declaration.answer, Embedding)
