"""Nodes are sent once, hidden after that, and let go when they take too much room."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vdpm.viewer.live.stage import Made, Stage, Wanted


class Node:
    def __init__(self, name: str) -> None:
        self.name, self.visible, self.removed, self.point_size = name, False, False, 0.0

    def remove(self) -> None:
        assert not self.removed
        self.removed = True


class Server:
    """Remembers what was made."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.held = 0
        """How many blocks hold back what is sent."""

    @contextmanager
    def atomic(self) -> Iterator[None]:
        self.held += 1
        yield
        self.held -= 1

    def make(self, nbytes: int = 1000) -> Any:
        def make(name: str) -> Made:
            assert self.held, "it would be seen for a moment"
            self.nodes.append(Node(name))
            return Made([self.nodes[-1]], nbytes, [0.5])

        return make

    def visible(self) -> list[int]:
        return [number for number, node in enumerate(self.nodes) if node.visible and not node.removed]


def test_each_node_is_made_once_and_shown_again() -> None:
    server = Server()
    stage = Stage(server, "/x")
    for times in (1, 2):
        for time in range(4):
            stage.show([Wanted(("still", 0), server.make()), Wanted(("moving", 0, time), server.make())])
            assert len(server.visible()) == 2, times
    assert len(server.nodes) == 5
    assert len({node.name for node in server.nodes}) == 5
    assert server.visible() == [0, 4]
    assert stage.made_bytes == 5000
    stage.show([])
    assert server.visible() == []


def test_what_is_prepared_is_hidden_until_it_is_wanted() -> None:
    server = Server()
    stage = Stage(server, "/x")
    stage.prepare(Wanted(("a",), server.make()))
    assert stage.has(("a",))
    assert server.visible() == []
    stage.show([Wanted(("a",), server.make())])
    assert server.visible() == [0]
    assert len(server.nodes) == 1


def test_what_was_seen_longest_ago_goes_first() -> None:
    server = Server()
    stage = Stage(server, "/x", nbytes=3500)
    for time in (0, 1, 2, 0, 3):
        stage.show([Wanted(("moving", time), server.make())])
    assert stage.nbytes <= 3500
    assert [stage.has(("moving", time)) for time in range(4)] == [True, False, True, True]
    stage.show([Wanted(("large",), server.make(10_000))])
    assert server.visible() == [4], "what is seen stays, however large"
    assert stage.nbytes == 10_000


def test_nodes_are_counted_too() -> None:
    server = Server()
    stage = Stage(server, "/x", nodes=3)
    for time in range(5):
        stage.show([Wanted(("moving", time), server.make())])
    assert [stage.has(("moving", time)) for time in range(5)] == [False, False, True, True, True]
    assert stage.full


def test_what_is_out_of_date_is_forgotten_unless_it_is_seen() -> None:
    server = Server()
    stage = Stage(server, "/x")
    for number in range(3):
        stage.show([Wanted(("still", number), server.make())])
    stage.forget(lambda key: key[1] != 0)
    assert [stage.has(("still", number)) for number in range(3)] == [True, False, True]


def test_points_grow_those_to_come_too() -> None:
    server = Server()
    stage = Stage(server, "/x")
    stage.show([Wanted(("a",), server.make())])
    stage.resize(2.0)
    stage.show([Wanted(("b",), server.make())])
    assert [node.point_size for node in server.nodes] == [1.0, 1.0]
