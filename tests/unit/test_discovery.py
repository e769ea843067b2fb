"""Controllers found in packages of either layout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver import Simulation
from wireroom.core import App, ConfigurationError
from wireroom.transports.discovery import discover

CONTROLLER = """
from wireroom.core import Context, command, controller

@controller({marks})
class {name}:
    @command()
    def hello(self, ctx: Context) -> str:
        return "{name} on " + ctx.session.path
"""
MODULE = 'from wireroom.core import Module\nmodule_{number} = Module("{path}")\n'


class Package:
    """A package that a test writes, and Python forgets afterwards."""

    def __init__(self, root: Path) -> None:
        self.root = root / "found_by_tests"
        self.root.mkdir()
        self.write("__init__.py", "")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def controller(self, name: str, cls: str, marks: str) -> None:
        self.write(name, CONTROLLER.format(name=cls, marks=marks))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Package(tmp_path)
    for name in [name for name in sys.modules if name.startswith("found_by_tests")]:
        del sys.modules[name]


def answers(path: str, *commands: str) -> list[str | bytes]:
    app = App()
    discover(app, "found_by_tests")
    peer = Simulation(app).open(path)
    for name in commands:
        peer.send(f'{{"type": "{name}"}}')
    return peer.messages


def test_a_folder_a_module_with_its_controllers_in_it(package: Package) -> None:
    package.write("chat/__init__.py", MODULE.format(number=1, path="/chat"))
    package.controller("chat/rooms.py", "Rooms", '"room"')
    package.controller("chat/users.py", "Users", '"user"')
    package.write("game/__init__.py", MODULE.format(number=2, path="/game"))
    package.controller("game/moves.py", "Moves", "")
    assert answers("/chat", "room.hello", "user.hello") == ["Rooms on /chat", "Users on /chat"]
    for name in [name for name in sys.modules if name.startswith("found_by_tests")]:
        del sys.modules[name]
    assert answers("/game", "hello") == ["Moves on /game"]


def test_all_modules_in_one_place_and_a_folder_of_controllers(package: Package) -> None:
    package.write(
        "modules.py",
        MODULE.format(number=1, path="/chat") + MODULE.format(number=2, path="/game"),
    )
    package.write("controllers/__init__.py", "")
    package.controller("controllers/rooms.py", "Rooms", '"room", path="/chat"')
    assert answers("/chat", "room.hello") == ["Rooms on /chat"]


def test_what_is_imported_is_not_found_twice(package: Package) -> None:
    package.write("chat/__init__.py", MODULE.format(number=1, path="/chat"))
    package.controller("chat/rooms.py", "Rooms", '"room"')
    package.write("chat/other.py", "from . import module_1\nfrom .rooms import Rooms\n")
    assert answers("/chat", "room.hello") == ["Rooms on /chat"]


def test_a_controller_that_could_belong_to_several_modules_is_refused(package: Package) -> None:
    package.write(
        "modules.py",
        MODULE.format(number=1, path="/chat") + MODULE.format(number=2, path="/game"),
    )
    package.controller("rooms.py", "Rooms", '"room"')
    with pytest.raises(ConfigurationError, match=r"rooms\.Rooms.*several.*/chat, /game"):
        answers("/chat")


@pytest.mark.parametrize("marks", ['"room"', '"room", path="/nowhere"'])
def test_a_controller_without_a_module_is_refused(package: Package, marks: str) -> None:
    package.controller("rooms.py", "Rooms", marks)
    with pytest.raises(ConfigurationError, match=r"rooms\.Rooms.*there is no module"):
        answers("/chat")


def test_a_path_defined_twice_is_refused(package: Package) -> None:
    package.write("a.py", MODULE.format(number=1, path="/chat"))
    package.write("b.py", MODULE.format(number=1, path="/chat"))
    with pytest.raises(ConfigurationError, match=r"/chat.*twice.*found_by_tests\.b"):
        answers("/chat")


def test_a_controller_that_is_found_brings_its_middleware(package: Package) -> None:
    package.write("modules.py", MODULE.format(number=1, path="/chat"))
    package.write(
        "chat.py",
        "from wireroom.core import Context, command, controller\n"
        "def shout(ctx: Context, call_next):\n"
        "    return call_next().upper()\n"
        '@controller("chat", middleware=[shout])\n'
        "class Chat:\n"
        "    @command()\n"
        "    def hello(self, ctx: Context) -> str:\n"
        '        return "hello"\n',
    )
    assert answers("/chat", "chat.hello") == ["HELLO"]
