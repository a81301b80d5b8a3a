"""Find the texts that go into an input with a secret's name, such as a primitive's that is linked to `api_key`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .graph.widgets import OWN_INPUTS, named_widgets, shown_widgets
from .graph.workflow import BYPASSED, INPUT_NODE, first_text

IsSecret = Callable[[str], bool]
# What a value passes through: a node, an input (by slot or name) or output of a subgraph, a widget of a subgraph's
# instance, or the name that setters and getters share.
_Place = tuple[Any, ...]
_OUTPUTS, _SHARED = "-20", "shared"
_SETTERS, _GETTERS = ("SetNode", "easy setNode"), ("GetNode", "easy getNode")


class SecretSources:
    """What of a graph (API or UI) goes into an input with a secret's name, over any number of links and levels."""

    def __init__(self, graph: Any, is_secret: IsSecret) -> None:
        self.nodes: set[int] = set()  # the id() of each node whose texts go there
        self.texts: defaultdict[int, set[str]] = defaultdict(set)  # of a subgraph's instance, by its id()
        levels = _levels(graph) if isinstance(graph, dict) else []
        if not any(map(is_secret, _linked_names(levels))):
            return
        paths = _Paths(levels, is_secret)
        left = paths.ends
        seen: set[_Place] = set()
        while left:
            place = left.pop()
            if place in seen:
                continue
            seen.add(place)
            left += paths.origins.get(place, ())
            for instance, text in paths.texts.get(place, ()):
                self.texts[instance].add(text)
            node = paths.nodes.get(place)
            # The text of a setter or getter names what it passes on.
            if node is not None and node.get("type") not in _SETTERS + _GETTERS:
                self.nodes.add(id(node))


def is_link(value: Any) -> bool:
    """Return whether an input of an API graph is a link: (node, slot)."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[1], int)
        and not isinstance(value[1], bool)
    )


class _Level(NamedTuple):
    """The workflow itself, or the definition of a subgraph, with its nodes by id."""

    definition: dict[str, Any]
    nodes: dict[str, dict[str, Any]]


class _Paths:
    """For each place of a graph, the places from which its value comes."""

    def __init__(self, levels: list[_Level], is_secret: IsSecret) -> None:
        self.ends: list[_Place] = []  # the origins of the inputs with a secret's name
        self.origins: defaultdict[_Place, list[_Place]] = defaultdict(list)
        self.texts: defaultdict[_Place, list[tuple[int, str]]] = defaultdict(list)
        self._levels = levels
        self._subgraphs = {
            str(level.definition.get("id")): number for number, level in enumerate(self._levels) if number
        }
        self.nodes: dict[_Place, dict[str, Any]] = {
            (number, name): node
            for number, level in enumerate(self._levels)
            for name, node in level.nodes.items()
        }
        for number, level in enumerate(self._levels):
            self._add_slots(number, level.definition)
            links = {key: origin for key, origin, _ in _links(level.definition)}
            for name, node in level.nodes.items():
                self._add_node(number, name, node, links, is_secret)

    def _add_slots(self, number: int, definition: dict[str, Any]) -> None:
        """Add the inputs and outputs of a subgraph."""
        declared = definition.get("inputs")
        for slot, item in enumerate(declared if isinstance(declared, list) else ()):
            if isinstance(item, dict) and isinstance(item.get("name"), str):
                self.origins[number, INPUT_NODE, slot].append((number, INPUT_NODE, item["name"]))
        for _, origin, (target, slot) in _links(definition):
            if target == _OUTPUTS:
                self.origins[number, _OUTPUTS, slot] += self._places(number, origin)

    def _add_node(
        self,
        number: int,
        name: str,
        node: dict[str, Any],
        links: dict[str, tuple[str, int]],
        is_secret: IsSecret,
    ) -> None:
        inner = self._subgraph(node)
        for input_name, origin in _sources(node, links):
            places = self._places(number, origin)
            self.origins[number, name] += places
            if inner:
                self.origins[inner, INPUT_NODE, input_name] += places
            if is_secret(input_name):
                self.ends += places
        if node.get("type") in _GETTERS:
            self.origins[number, name].append((_SHARED, first_text(node)))
        if node.get("type") in _SETTERS:
            self.origins[_SHARED, first_text(node)].append((number, name))
        if inner:
            self._add_widgets(number, name, node, inner)

    def _add_widgets(self, number: int, name: str, instance: dict[str, Any], inner: int) -> None:
        """Add the widgets of a subgraph's instance, whose values replace those inside."""
        own = [(OWN_INPUTS, widget, value) for widget, value in named_widgets(instance).items()]
        for shown, widget, value in own + shown_widgets(instance):
            if not isinstance(value, str):
                continue
            place = (number, name, shown, widget)
            self.texts[place].append((id(instance), value))
            # Another instance may show this widget in turn.
            self.origins[place].append((number, name, widget))
            if shown == OWN_INPUTS:
                self.origins[inner, INPUT_NODE, widget].append(place)
            elif self._subgraph(self._levels[inner].nodes.get(shown, {})):
                self.origins[inner, shown, widget].append(place)
            else:
                self.origins[inner, shown].append(place)

    def _places(self, number: int, origin: tuple[str, int]) -> list[_Place]:
        """Return where the value of a link comes from."""
        name, slot = origin
        if name == INPUT_NODE:
            return [(number, INPUT_NODE, slot)]
        node = self.nodes.get((number, name), {})
        inner = self._subgraph(node)
        if not inner:
            return [(number, name)]
        return [(inner, _OUTPUTS, slot), *([(number, name)] if node.get("mode") == BYPASSED else [])]

    def _subgraph(self, node: dict[str, Any]) -> int:
        """Return the index of the level of which `node` is an instance; 0: of none."""
        kind = node.get("type")
        return self._subgraphs.get(kind, 0) if isinstance(kind, str) else 0


def _levels(graph: dict[str, Any]) -> list[_Level]:
    if not isinstance(graph.get("nodes"), list):
        return [_Level({}, {name: node for name, node in graph.items() if type(node) is dict})]
    definitions = graph.get("definitions")
    subgraphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    found = []
    for level in (graph, *(subgraphs if isinstance(subgraphs, list) else ())):
        nodes = level.get("nodes") if isinstance(level, dict) else None
        if isinstance(nodes, list):
            by_id = {
                str(node["id"]): node
                for node in nodes
                if type(node) is dict and type(node.get("id")) in (int, str)
            }
            found.append(_Level(level, by_id))
    return found


def _linked_names(levels: list[_Level]) -> set[str]:
    """Return the names of all linked inputs."""
    names = set()
    for level in levels:
        for node in level.nodes.values():
            inputs = node.get("inputs")
            if type(inputs) is dict:
                names |= {name for name, value in inputs.items() if type(value) is list}
            elif type(inputs) is list:
                for item in inputs:
                    if type(item) is dict and item.get("link") is not None and type(item.get("name")) is str:
                        names.add(item["name"])
    return names


def _links(level: dict[str, Any]) -> Iterator[tuple[str, tuple[str, int], tuple[str, int]]]:
    """Yield each link's id, origin and target. Links are lists at the top level, objects in subgraphs."""
    links = level.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, list):
            key, origin, slot, target, target_slot = [*link, *[None] * 5][:5]
        elif isinstance(link, dict):
            key, origin, slot, target, target_slot = (
                link.get(name) for name in ("id", "origin_id", "origin_slot", "target_id", "target_slot")
            )
        else:
            continue
        if isinstance(key, (int, str)) and isinstance(origin, (int, str)):
            yield str(key), (str(origin), _slot(slot)), (str(target), _slot(target_slot))


def _slot(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _sources(
    node: dict[str, Any], links: dict[str, tuple[str, int]]
) -> Iterator[tuple[str, tuple[str, int]]]:
    """Yield the name of each linked input, and the link's origin."""
    inputs = node.get("inputs")
    if isinstance(inputs, dict):
        for name, value in inputs.items():
            if is_link(value) and isinstance(value[0], (int, str)):
                yield name, (str(value[0]), value[1])
    for item in inputs if isinstance(inputs, list) else ():
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            link = item.get("link")
            if isinstance(link, (int, str)) and str(link) in links:
                yield item["name"], links[str(link)]
