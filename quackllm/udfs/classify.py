"""LLM_CLASSIFY(input, labels): the one label that fits best, or all that fit."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from quackllm.errors import BindError
from quackllm.udfs.answers import choice_tokens, labels_answer, read_choice, read_labels
from quackllm.udfs.base import Binding, Choice, Declaration, Function, Kind, Option, Parameter
from quackllm.udfs.options import one_of, shown, text
from quackllm.udfs.prompt import DATA_NOTE, did_you_mean, quoted

Labels = dict[str, str]


def declare(binding: Binding) -> Declaration:
    """Return the declaration. Raises `BindError` for labels or examples that are wrong."""
    labels = read_label_set(binding.constants["labels"])
    several = binding.options["output_mode"] == "multi"
    instruction = _instruction(labels, several, binding.options)
    names = tuple(labels)
    if several:
        return Declaration(
            instruction=instruction,
            returns="VARCHAR[]",
            answer=labels_answer(names),
            parse=partial(read_labels, labels=names),
            max_tokens=32 + sum(8 + len(name.encode()) for name in names),
        )
    return Declaration(
        instruction=instruction,
        returns="VARCHAR",
        answer=Choice(names),
        parse=partial(read_choice, labels=names),
        max_tokens=choice_tokens(names),
    )


def read_label_set(value: Any) -> Labels:
    """Return label → description, '' where there is none, in the order given.

    Raises `BindError` for anything but a list of texts or a map of text to text.
    """
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = [(label, "") for label in value]
    else:
        raise BindError(
            f"labels must be a list of texts, or a MAP or STRUCT of label to description, "
            f"not {shown(value)}{_as_list(value)}"
        )
    if not pairs:
        raise BindError("labels are empty: give at least one")
    found: Labels = {}
    folded: dict[str, str] = {}
    for label, description in pairs:
        if not isinstance(label, str) or not label.strip():
            raise BindError(f"a label must be a text that is not empty, not {shown(label)}")
        if description is not None and not isinstance(description, str):
            raise BindError(
                f"the description of label {label!r} must be a text, not {shown(description)}"
            )
        key = label.strip().casefold()
        if key in folded:
            first = folded[key]
            how = (
                "appears twice"
                if first == label
                else f"differs from {first!r} only in case or spaces"
            )
            raise BindError(f"label {label!r} {how}")
        folded[key] = label
        found[label] = " ".join((description or "").split())
    return found


def _as_list(value: Any) -> str:
    """Say how a text that stands in the place of a list of labels is written as one."""
    labels = [part.strip() for part in value.split(",")] if isinstance(value, str) else []
    if not all(labels) or not labels:
        return ""
    return f"; write [{', '.join(map(shown, labels))}]"


def _instruction(labels: Labels, several: bool, options: Mapping[str, Any]) -> str:
    if several:
        opening = 'Classify the data: reply in JSON {"answer": [all the labels that fit]}.'
    else:
        opening = "Classify the data: reply with the one label that fits best."
    if options["task"]:
        opening += f"\nTask: {options['task']}"
    return "\n".join(
        [opening, _listed(labels, several), *_shown_examples(labels, options), DATA_NOTE]
    )


def _listed(labels: Labels, several: bool) -> str:
    """Return the labels for the instruction: in one line, or one to a line if described."""
    write = quoted if several else str
    if not any(labels.values()):
        return "Labels: " + ", ".join(map(write, labels))
    lines = [
        f"- {write(name)}: {why}" if why else f"- {write(name)}" for name, why in labels.items()
    ]
    return "\n".join(["Labels:", *lines])


def examples(value: Any) -> list[dict[str, Any]]:
    """Check for a list of structs `{'input': text, 'answer': label or labels}`."""
    wanted = "must be a list of {'input': text, 'answer': label}"
    if not isinstance(value, list):
        raise ValueError(f"{wanted}, not {shown(value)}")
    for each in value:
        if not isinstance(each, dict) or set(each) != {"input", "answer"}:
            raise ValueError(f"{wanted}, not {shown(each)}")
    return value


def _shown_examples(labels: Labels, options: Mapping[str, Any]) -> list[str]:
    lines = []
    for each in options["examples"]:
        answers = each["answer"] if isinstance(each["answer"], list) else [each["answer"]]
        for answer in answers:
            if answer not in labels:
                hint = did_you_mean(str(answer), labels)
                raise BindError(f"the example answer {shown(answer)} is not a label{hint}")
        if options["output_mode"] == "multi":
            written = f'{{"answer": [{", ".join(map(quoted, answers))}]}}'
        elif len(answers) == 1:
            written = answers[0]
        else:
            raise BindError("an example must have one label unless output_mode is 'multi'")
        lines.append(f"Example: {quoted(str(each['input']))} -> {written}")
    return lines


CLASSIFY = Function(
    name="llm_classify",
    aliases=("ai_classify",),
    summary="the label that fits best, or with output_mode 'multi' all that fit",
    parameters=(
        Parameter("input", Kind.VALUE, "the data to classify"),
        Parameter("labels", Kind.CONSTANT, "a list of labels, or label to description"),
    ),
    options=(
        Option(
            "output_mode",
            "'single': one label, VARCHAR; 'multi': all that fit, VARCHAR[]",
            one_of("single", "multi"),
            "single",
        ),
        Option("task", "what to classify by, in a sentence", text),
        Option("examples", "a list of {'input': text, 'answer': label}", examples, ()),
    ),
    declare=declare,
    version=2,
    example="SELECT LLM_CLASSIFY(body, ['bug', 'question', 'praise']) FROM tickets",
)
