"""A history as text: a tree for a terminal, and the language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bertconv.manage.history.graph import CLAIMED, PROVEN, RECORDED, Edge, Graph, Model
from bertconv.text import printable

_BRANCH, _LAST, _GOES_ON, _ENDS = "├─ ", "└─ ", "│  ", "   "
_STYLES = {PROVEN: "solid, bold", RECORDED: "solid", CLAIMED: "dashed"}
MOST_ALIASES = 3
"""How many other names of one model are shown."""


def tree(graph: Graph) -> Iterator[tuple[str, str]]:
    """Lines of a tree, each with the state that its colour is to tell: the model, below it its parents, and so on.

    A model that has several children stands below the first of them with its own parents, and below the others alone.
    """
    shown: set[str] = set()
    stack: list[tuple[str, str, str, Edge | None]] = [("", "", graph.root, None)]
    while stack:
        lead, below, key, edge = stack.pop()
        model, edges = graph.models[key], graph.parents.get(key, ())
        again = key in shown and bool(edges)
        yield lead + _line(model, edge) + (" (its parents are above)" if again else ""), model.state
        if again or key in shown:
            continue
        shown.add(key)
        rest = _GOES_ON if edges else _ENDS
        for text, state in _details(model, is_root=edge is None):
            yield below + rest + text, state
        ends = [*[(_BRANCH, _GOES_ON)] * (len(edges) - 1), (_LAST, _ENDS)][: len(edges)]
        rows = [(below + first, below + then, one.parent, one) for one, (first, then) in zip(edges, ends, strict=True)]
        stack += reversed(rows)


def _line(model: Model, edge: Edge | None) -> str:
    """`input step-100, made by average, BertModel, 1a2b3c4d5e6f, recorded`."""
    role = f"{edge.role} " if edge is not None and edge.role else ""
    made = f"made by {' and '.join(model.verbs)}" if model.verbs else ""
    return role + ", ".join(filter(None, (model.name, made, model.head, model.short or "no digest", model.state)))


def _details(model: Model, *, is_root: bool) -> Iterator[tuple[str, str]]:
    """Where it is, and what else it is called."""
    alone = len(model.places) == 1 and (is_root or model.places[0].folder == model.name)
    for place in model.places:
        if not alone or place.state != model.state:
            state = f": {place.state}" if place.state != model.state else ""
            yield f"in {printable(place.folder)}{state}", place.state
    names = model.aliases
    if names:
        rest = f" and {len(names) - MOST_ALIASES} more" if len(names) > MOST_ALIASES else ""
        yield f"the same weights: {', '.join(names[:MOST_ALIASES])}{rest}", CLAIMED


def dot(graph: Graph) -> str:
    """The graph in the language of Graphviz; edges lead from parents to children."""
    numbers = {key: f"m{number}" for number, key in enumerate(graph.models)}
    lines = ["digraph history {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];',
             '  edge [fontname="sans-serif"];']  # fmt: skip
    for key, model in graph.models.items():
        facts = (model.name, " and ".join(model.verbs), model.head, model.short or "no digest", model.state)
        root = ", penwidth=2" if key == graph.root else ""
        lines.append(f'  {numbers[key]} [label={_quoted(facts)}, style="{_STYLES[model.state]}"{root}];')
    for edge in graph.edges:
        style = f'label={_quoted([edge.role])}, style="{_STYLES[edge.state]}"'
        lines.append(f"  {numbers[edge.parent]} -> {numbers[edge.child]} [{style}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(parts: Sequence[str]) -> str:
    """Lines as a text of Graphviz, in which a backslash begins an escape."""
    lines = "\\n".join(part.replace("\\", "\\\\").replace('"', '\\"') for part in parts if part)
    return f'"{lines}"'
