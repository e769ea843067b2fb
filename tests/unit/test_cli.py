"""The command line without a server: usage, what keeps it from starting, and `routes`.

tests/conformance/test_cli.py has the programs as processes.
"""

from __future__ import annotations

import dataclasses
import enum
import socket
import sys
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import pytest
from click.testing import CliRunner, Result

from wireroom.core import ConfigurationError, Limits
from wireroom.transports.cli import main
from wireroom.transports.cli.commands import wireroom
from wireroom.transports.cli.conversation import printable
from wireroom.transports.cli.described import describe_type, type_name
from wireroom.transports.cli.limits import replace_limits

APP = """
import msgspec
from enum import Enum
from wireroom.core import App, Context, Session, Stages, WebSocket, WebSocketView

class Stage(Enum):
    NEW = 1
    KNOWN = 2

class Store: ...

class Say(msgspec.Struct):
    text: str
    to: list[int] | None = None

app = App()
app.provide(Store, Store)

@app.websocket("/echo", subprotocols=["v2", "v1"])
async def echo(ws: WebSocket) -> None: ...

@app.view("/view")
class View(WebSocketView): ...

@app.http("/healthz")
def healthz(request): ...

chat = app.module("/chat/{room}", stages=Stages(Stage.NEW, {Stage.NEW: [Stage.KNOWN]}))

@chat.on_open
def opened(session: Session) -> None: ...

@chat.middleware
def around(ctx, call_next): return call_next()

@chat.command("say", stages=[Stage.KNOWN], middleware=[around])
def say(ctx: Context, data: Say, store: Store) -> None: ...

@chat.default_command
def other(ctx: Context) -> None: ...

def make_app() -> App: return app
def needs(what): return app
def fails() -> App: raise RuntimeError("no database")
def wrong(): return 5
class Holder: app = app
number = 5
"""

Invoke = Callable[..., Result]
Write = Callable[[str], str]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs `wireroom` in a folder of its own; what it imports there is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
        before = set(sys.modules)
        try:
            return CliRunner().invoke(wireroom, list(arguments), env=env)
        finally:
            for name in set(sys.modules) - before:
                if not name.startswith(("wireroom", "anyio", "trio", "uvloop")):
                    del sys.modules[name]

    return run


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a module, and gives its name."""
    count = 0

    def write_module(source: str) -> str:
        nonlocal count
        count += 1
        name = f"cli_app_{count}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write_module


def only_line(result: Result) -> str:
    """What a program that cannot start says, which has to be one line."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("wireroom: ")
    return line.removeprefix("wireroom: ")


# -- the program ------------------------------------------------------------------------------


def test_without_click_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 2
    assert "pip install wireroom[cli]" in capsys.readouterr().err


def test_main_takes_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("wireroom, version ")


def test_shells_can_complete_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_WIREROOM_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", "wireroom serve app:app --transport tri")
    monkeypatch.setenv("COMP_CWORD", "4")
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["plain", "trio"]


@pytest.mark.parametrize("command", [[], ["serve"], ["connect"], ["routes"]])
def test_help_has_examples_and_exit_statuses(invoke: Invoke, command: list[str]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert "\n    wireroom " in result.stdout
    assert "xit status" in result.stdout


def test_a_variable_sets_an_option(invoke: Invoke) -> None:
    result = invoke("serve", "app:app", env={"WIREROOM_SERVE_TRANSPORT": "pigeons"})
    assert result.exit_code == 2
    assert "'pigeons' is not one of" in result.stderr


def test_a_variable_names_the_app(invoke: Invoke, write: Write) -> None:
    name = write(APP)
    assert "/healthz" in invoke("routes", env={"WIREROOM_APP": f"{name}:app"}).stdout


# -- apps that cannot be loaded ---------------------------------------------------------------


@pytest.mark.parametrize("attribute", ["app", "make_app", "Holder.app"])
def test_an_app_is_an_attribute_or_what_a_function_gives(
    invoke: Invoke, write: Write, attribute: str
) -> None:
    result = invoke("routes", f"{write(APP)}:{attribute}")
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("nowhere:app", "nowhere:app: there is no module 'nowhere' in "),
        ("nowhere.at.all:app", "there is no module 'nowhere' in "),
        ("{}.below:app", "there is no module '{}.below' in "),
        ("{}", "which app? give {}:app or {}:make_app or {}:fails"),
        ("{}:", "which app? "),
        ("{}:application", "{} has no 'application': give {}:app or "),
        ("{}:Holder.nothing", "{} has no 'Holder.nothing': "),
        ("{}:number", "is a int, and no App: give {}:app"),
        ("{}:wrong", "is a int, and no App: "),
        ("{}:needs", "cannot be called without arguments: "),
        ("folder/{}.py:app", "give a module, not a file: folder.{}:app"),
        ("not a module:app", "must be module:attribute, for example server:app"),
        (":app", "must be module:attribute"),
        ("{}..x:app", "must be module:attribute"),
    ],
)
def test_what_names_no_app_is_said_in_a_line(
    invoke: Invoke, write: Write, target: str, problem: str
) -> None:
    name = write(APP)
    for command in ("serve", "routes"):
        line = only_line(invoke(command, target.replace("{}", name)))
        assert problem.replace("{}", name) in line


def test_a_module_without_an_app_is_told_what_to_make(invoke: Invoke, write: Write) -> None:
    name = write("")
    assert f"make an App in {name}" in only_line(invoke("routes", name))


@pytest.mark.parametrize(
    ("source", "what", "shown"),
    [
        ("import not_there_at_all", "importing", "No module named 'not_there_at_all'"),
        ("from wireroom.core import Nothing", "importing", "cannot import name 'Nothing'"),
        ("def broken(:", "importing", "SyntaxError"),
        ("raise SystemExit(0)", "importing", "SystemExit"),
        (APP, "calling fails()", "RuntimeError: no database"),
    ],
    ids=["import", "name", "syntax", "exit", "factory"],
)
def test_what_fails_in_the_module_itself_has_its_traceback(
    invoke: Invoke, write: Write, source: str, what: str, shown: str
) -> None:
    name = write(source)
    result = invoke("serve", f"{name}:fails")
    assert result.exit_code == 2
    assert shown in result.stderr
    assert f"{name}.py" in result.stderr
    assert "loading.py" not in result.stderr
    assert "importlib" not in result.stderr
    assert f"{name}:fails: {what}" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", ["serve", "routes"])
def test_a_registration_that_cannot_work_is_a_line(
    invoke: Invoke, write: Write, command: str
) -> None:
    name = write("from wireroom.core import App\napp = App()\napp.module('nowhere')")
    assert only_line(invoke(command, f"{name}:app")) == "path 'nowhere': must start with a slash"


def test_what_only_shows_at_the_start_is_a_line(invoke: Invoke, write: Write) -> None:
    source = f"{APP}\n@chat.on_message\ndef message(session, message): ..."
    name = write(source)
    for command in ("serve", "routes"):
        line = only_line(invoke(command, f"{name}:app"))
        assert line.startswith("module /chat/{room}: has on_message (")


# -- settings of serve that cannot work -------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("--certfile nowhere.pem", "--certfile: nowhere.pem does not exist"),
        ("--keyfile key.pem", "--keyfile: is for TLS: give --certfile too, or leave it"),
        ("--client-ca ca.pem", "--client-ca: is for TLS"),
        ("--require-client-cert", "--require-client-cert: is for TLS"),
        ("--unix a.sock --port 1234", "--unix, --port: exclude each other"),
        ("--unix-mode 600", "--unix-mode: is for a Unix socket"),
        ("--unix nowhere/a.sock", "--unix: there is no folder nowhere"),
        ("--inherited", "--inherited: LISTEN_FDS and LISTEN_PID are not set"),
        ("--backlog 0", "--backlog: must be 1 to "),
        ("--grace-s -1", "--grace-s: must not be negative"),
        ("--spread-s -1", "--spread-s: must not be negative"),
        ("--host nowhere.invalid", "--host: 'nowhere.invalid' does not resolve"),
        ("--limit ping", "--limit ping: must be name=value"),
        (
            "--limit message_bytes=1",
            "--limit message_bytes: there is none: do you mean message_bytes_max",
        ),
        ("--limit xyzzy=1", "--limit xyzzy: there is none: there are head_bytes_max, "),
        ("--limit head_bytes_max=many", "--limit head_bytes_max: must be a number, inf "),
        ("--limit head_bytes_max=0", "--limit head_bytes_max: must be a whole number of at least"),
        ("--limit ping_interval_s=none", "--limit ping_interval_s: must be a number, not None"),
        ("--reload --limit xyzzy=1", "--limit xyzzy: there is none"),
        ("--reload --certfile nowhere.pem", "--certfile: nowhere.pem does not exist"),
        ("--reload --unix a.sock --port 1234", "--unix, --port: exclude each other"),
    ],
)
@pytest.mark.parametrize("transport", ["asyncio", "trio"])
def test_a_setting_that_cannot_work_is_a_line_that_names_it(
    invoke: Invoke, write: Write, transport: str, arguments: str, problem: str
) -> None:
    result = invoke("serve", f"{write(APP)}:app", "--transport", transport, *arguments.split())
    assert only_line(result).startswith(problem)


def test_a_port_in_use_is_a_line(invoke: Invoke, write: Write) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = only_line(invoke("serve", f"{write(APP)}:app", "--port", str(port)))
    assert line.startswith(f"--port: {port} is in use on 127.0.0.1: stop the program")


def test_debug_adds_the_traceback(invoke: Invoke, write: Write) -> None:
    result = invoke("serve", f"{write(APP)}:app", "--certfile", "no.pem", "--log-level", "debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == "wireroom: --certfile: no.pem does not exist"


@pytest.mark.parametrize(
    ("transport", "library"), [("uvloop", "uvloop"), ("trio", "trio"), ("anyio-asyncio", "anyio")]
)
def test_a_library_that_is_missing_is_named(
    invoke: Invoke, write: Write, monkeypatch: pytest.MonkeyPatch, transport: str, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, "wireroom.transports.anyio", raising=False)
    monkeypatch.delattr("wireroom.transports.anyio", raising=False)
    line = only_line(invoke("serve", f"{write(APP)}:app", "--transport", transport))
    assert line == f"--transport: {transport} needs {library}: pip install {library}"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [("--port 70000", "70000"), ("--unix-mode 9", "must be octal"), ("--transport x", "'x'")],
)
def test_wrong_usage_is_status_2(invoke: Invoke, arguments: str, problem: str) -> None:
    result = invoke("serve", "app:app", *arguments.split())
    assert result.exit_code == 2
    assert problem in result.stderr


def test_limits_are_replaced_one_by_one() -> None:
    limits = Limits(message_bytes_max=1000, ping_interval_s=5)
    given = ["message_bytes_max=2_000", "ping_timeout_s=inf", "frame_bytes_max=none"]
    assert replace_limits(limits, given) == Limits(
        message_bytes_max=2000, ping_interval_s=5, ping_timeout_s=inf, frame_bytes_max=None
    )
    assert replace_limits(limits, []) == limits
    with pytest.raises(ConfigurationError, match="--limit frame_bytes_max: must not be more"):
        replace_limits(limits, ["frame_bytes_max=1001"])


# -- connect ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["ws://h/", "--insecure"], "--insecure: is for wss:// URLs, not ws://h/"),
        (["ws://h/", "--ca", "a.pem"], "--ca: is for wss:// URLs"),
        (["wss://h/", "--ca", "a.pem", "--insecure"], "--insecure, --ca: exclude each other"),
        (["wss://h/", "--ca", "nowhere.pem"], "--ca: nowhere.pem does not exist"),
        (["wss://h/", "--keyfile", "key.pem"], "--certfile: is needed with keyfile"),
        (["ws://h/", "--ping", "-m", "x"], "--ping, --message: exclude each other"),
        (["http://h/"], "URL: 'http://h/' is not a ws:// or wss:// URL"),
        (["ws://h/", "-H", "Bad Name: x"], "'Bad Name'"),
    ],
)
def test_what_cannot_be_connected_to_is_a_line(
    invoke: Invoke, arguments: list[str], problem: str
) -> None:
    assert problem in only_line(invoke("connect", *arguments))


def test_a_header_has_a_name_and_a_value(invoke: Invoke) -> None:
    result = invoke("connect", "ws://h/", "-H", "Authorization")
    assert result.exit_code == 2
    assert "must be 'Name: value', not 'Authorization'" in result.stderr


def test_what_could_command_a_terminal_is_escaped() -> None:
    assert printable("grün\x1b[31m\r\n\u202e") == "grün\\x1b[31m\\r\\n\\u202e"


# -- routes -----------------------------------------------------------------------------------


def test_routes_are_shown(invoke: Invoke, write: Write) -> None:
    name = write(APP)
    assert (
        invoke("routes", f"{name}:app").stdout
        == f"""\
/echo  function  {name}.echo
  subprotocols: v2, v1
/view  view  {name}.View
/chat/{{room}}  module
  messages: text by JsonParser
  on_open: {name}.opened
  middleware: {name}.around
  stages: NEW first; NEW -> KNOWN
  command say: Say  {name}.say
    text: str
    to: list[int] | None = None
    services: Store
    stages: KNOWN
    middleware: {name}.around
  command (any other)  {name}.other
/healthz  http  {name}.healthz
"""
    )


def test_routes_are_json_for_programs(invoke: Invoke, write: Write) -> None:
    name = write(APP)
    shown = msgspec.json.decode(invoke("routes", f"{name}:app", "--json").stdout)
    assert [each["path"] for each in shown] == ["/echo", "/view", "/chat/{room}", "/healthz"]
    say, other = shown[2]["commands"]
    schema = say["data"].pop("schema")
    assert schema["$defs"]["Say"]["properties"]["text"] == {"type": "string"}
    assert say == {
        "name": "say",
        "handler": f"{name}.say",
        "data": {
            "type": "Say",
            "fields": [
                {"name": "text", "type": "str", "required": True, "default": None},
                {
                    "name": "to",
                    "type": "list[int] | None",
                    "required": False,
                    "default": "None",
                },
            ],
        },
        "services": ["Store"],
        "stages": ["KNOWN"],
        "middleware": [f"{name}.around"],
    }
    assert (other["name"], other["data"]) == (None, None)
    assert shown[2]["stages"] == {"initial": "NEW", "transitions": {"NEW": ["KNOWN"]}}


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    colour: Colour = Colour.RED
    tags: list[str] = dataclasses.field(default_factory=list)


class Options(TypedDict):
    a: int
    b: NotRequired[str]


class Renamed(msgspec.Struct, rename="camel"):
    first_name: Annotated[str, msgspec.Meta(min_length=1)]


class Opaque:
    """Nothing that JSON knows."""


def fields_of(data_type: Any) -> list[tuple[str, str, bool, str | None]]:
    return [
        (each["name"], each["type"], each["required"], each["default"])
        for each in describe_type(data_type)["fields"]
    ]


def test_fields_of_each_kind_of_type() -> None:
    assert fields_of(Point) == [
        ("x", "int", True, None),
        ("colour", "Colour", False, "RED"),
        ("tags", "list[str]", False, "list()"),
    ]
    assert fields_of(Options) == [("a", "int", True, None), ("b", "str", False, None)]
    assert fields_of(Renamed) == [("firstName", "str", True, None)]
    assert fields_of(dict[str, int]) == []
    assert describe_type(Opaque) == {"type": "Opaque", "fields": [], "schema": None}


@pytest.mark.parametrize(
    ("hint", "name"),
    [
        (int, "int"),
        (None, "None"),
        (Any, "Any"),
        (int | None, "int | None"),
        (dict[str, list[Point]], "dict[str, list[Point]]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Annotated[str, msgspec.Meta(max_length=3)], "str"),
    ],
)
def test_a_type_is_named_as_it_is_written(hint: Any, name: str) -> None:
    assert type_name(hint) == name
