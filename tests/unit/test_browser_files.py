"""The browser client and other files over HTTP: types, tags, and what a wheel holds of them."""

from __future__ import annotations

import json
import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from driver import Simulation
from http_responses import HttpResponse, read_response
from installs import Distributions
from raw import get
from sources import ROOT
from wireroom.browser import PAGE_HEADERS, SCRIPT, TYPES, add_client, add_file
from wireroom.core import App


def ask(app: App, path: str, *headers: str) -> HttpResponse:
    simulation = Simulation(app)
    peer = simulation.connect()
    peer.send_raw(get(path, *headers))
    assert simulation.failures == []
    return read_response(bytes(peer.received))


def test_the_client_is_served_with_its_types() -> None:
    app = App()
    add_client(app)
    script = ask(app, "/wireroom.js")
    assert (script.status, script.body) == (200, SCRIPT.read_bytes())
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.headers["cache-control"] == "no-cache"
    assert script.headers["x-content-type-options"] == "nosniff"
    assert ask(app, "/wireroom.d.ts").body == TYPES.read_bytes()


def test_the_client_may_be_elsewhere() -> None:
    app = App()
    add_client(app, "/static/client.js")
    assert ask(app, "/static/client.js").status == 200
    assert ask(app, "/static/client.d.ts").status == 200


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_who_has_it_still_is_not_given_it_again(form: str) -> None:
    app = App()
    add_client(app)
    tag = ask(app, "/wireroom.js").headers["etag"]
    again = ask(app, "/wireroom.js", f"If-None-Match: {form.format(tag)}")
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)


def test_who_has_another_gets_it() -> None:
    app = App()
    add_client(app)
    assert ask(app, "/wireroom.js", 'If-None-Match: "other"').status == 200


def test_a_page_has_its_headers(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html>")
    app = App()
    add_file(app, "/", page, headers=PAGE_HEADERS)
    response = ask(app, "/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in response.headers["content-security-policy"]


def test_an_unknown_suffix_needs_a_type(tmp_path: Path) -> None:
    file = tmp_path / "sound.opus"
    file.write_bytes(b"")
    with pytest.raises(KeyError):
        add_file(App(), "/sound", file)
    app = App()
    add_file(app, "/sound", file, content_type="audio/ogg")
    assert ask(app, "/sound").status == 200


def test_the_package_says_the_same_version() -> None:
    package = json.loads(SCRIPT.with_name("package.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (package["name"], package["version"]) == (project["name"], project["version"])


@pytest.mark.slow
def test_the_wheel_has_the_files(distributions: Distributions) -> None:
    with zipfile.ZipFile(distributions.wheel) as wheel:
        for name in ("wireroom.js", "wireroom.d.ts", "package.json", "py.typed"):
            packed = wheel.read(f"wireroom/browser/{name}")
            assert packed == SCRIPT.with_name(name).read_bytes()


def test_the_documented_programs_and_codes_are_true() -> None:
    docs = (ROOT / "docs" / "browser.md").read_text("utf-8")
    programs = re.findall(r"```python\n(.*?)```", docs, re.DOTALL)
    spaces: list[dict[str, Any]] = [{} for _ in programs]
    for program, space in zip(programs, spaces, strict=True):
        exec(compile(program, "browser.md", "exec", dont_inherit=True), space)
    assert ask(spaces[0]["app"], "/wireroom.js").status == 200
    assert [path for path, _ in spaces[1]["app"].modules] == ["/chat"]
    script = SCRIPT.read_text("utf-8")
    for name, option in (("STOP_CODES", "stopCodes"), ("SOON_CODES", "soonCodes")):
        (codes,) = re.findall(rf"{name} = Object\.freeze\(\[([\d, ]+)\]\)", script)
        (row,) = re.findall(rf"^\| (1.*?) \|.*`{option}`", docs, re.MULTILINE)
        assert re.findall(r"\d{4}", row) == codes.split(", ")
