"""Two source roots, one namespace: it must hold in the tree, in an editable install, in a wheel.

With an `__init__.py` at the namespace level an editable install finds one root only, while a
wheel, which has both below one folder, still works. So both ways are tested, each from an empty
folder, where nothing is importable by accident.
"""

from __future__ import annotations

import importlib
import runpy
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import wireroom.core
from installs import (
    COMPILED,
    Distributions,
    Environment,
    build_wheel,
    make_environment,
    pip_install,
    runtime_dependencies,
)
from sources import CORE, ROOT, TRANSPORTS

NAMESPACES = (CORE / "wireroom", TRANSPORTS / "wireroom")
HOT_MODULES: tuple[str, ...] = runpy.run_path(str(ROOT / "hatch_build.py"))["HOT_MODULES"]

IMPORT_ALL = """
import wireroom, wireroom.core, wireroom.transports, wireroom.transports.asyncio
assert getattr(wireroom, "__file__", None) is None, wireroom.__file__
print(wireroom.core.__file__)
print(wireroom.transports.__file__)
"""


@pytest.mark.parametrize("namespace", NAMESPACES, ids=lambda p: p.parent.name)
def test_namespace_has_no_init(namespace: Path) -> None:
    assert [path.name for path in namespace.iterdir() if path.is_file()] == []


@pytest.mark.parametrize("namespace", NAMESPACES, ids=lambda p: p.parent.name)
def test_each_package_is_typed(namespace: Path) -> None:
    packages = [path for path in namespace.iterdir() if path.name != "__pycache__"]
    assert packages
    for package in packages:
        assert (package / "__init__.py").is_file()
        assert (package / "py.typed").is_file()


@pytest.mark.slow
def test_editable_install_imports_both_roots(tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "venv", *runtime_dependencies(), "hatchling")
    pip_install(environment, "--no-build-isolation", "--editable", str(ROOT), cwd=tmp_path)
    core, transports = _imported(environment, tmp_path)
    assert core == CORE / "wireroom/core/__init__.py"
    assert transports == TRANSPORTS / "wireroom/transports/__init__.py"


@pytest.mark.slow
def test_wheel_imports_both_roots(wheel_environment: Environment, tmp_path: Path) -> None:
    package = wheel_environment.site_packages / "wireroom"
    core, transports = _imported(wheel_environment, tmp_path)
    # The suffix is left open: a compiled module ends otherwise.
    assert core.parent == package / "core"
    assert transports.parent == package / "transports"


@pytest.mark.slow
def test_wheel_holds_the_packages_and_nothing_else(distributions: Distributions) -> None:
    with zipfile.ZipFile(distributions.wheel) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"wireroom"}
    assert {"wireroom/core/py.typed", "wireroom/transports/py.typed"} <= set(names)
    assert "wireroom/__init__.py" not in names
    assert distributions.wheel.name.endswith("-py3-none-any.whl")  # a plain one


@pytest.mark.slow
def test_compiled_wheel_imports_both_roots(tmp_path: Path) -> None:
    wheel, said = build_wheel(tmp_path, COMPILED)
    assert "The core is compiled" in said
    assert not wheel.name.endswith("-any.whl")
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
    for module in HOT_MODULES:
        path = module.replace(".", "/")
        assert f"{path}.py" in names
        assert f"{path}{sysconfig.get_config_var('EXT_SUFFIX')}" in names
    environment = make_environment(tmp_path / "venv", *runtime_dependencies())
    pip_install(environment, str(wheel), cwd=tmp_path)
    _imported(environment, tmp_path)
    printed = environment.run("import wireroom.core as c; print(c.compiled)", cwd=tmp_path)
    assert printed == "True\n"


@pytest.mark.slow
def test_a_wheel_is_plain_without_a_c_compiler(tmp_path: Path) -> None:
    wheel, said = build_wheel(tmp_path, {"CC": "no-such-compiler"})
    assert "The core is not compiled" in said
    assert "there is no C compiler (no-such-compiler)" in said
    assert wheel.name.endswith("-py3-none-any.whl")


@pytest.mark.slow
def test_a_wheel_is_plain_where_the_c_compiler_fails(tmp_path: Path) -> None:
    wheel, said = build_wheel(tmp_path, {"CC": "false"})
    assert "The core is not compiled" in said
    assert "Command '['false'" in said
    assert wheel.name.endswith("-py3-none-any.whl")


@pytest.mark.parametrize("module", HOT_MODULES)
def test_compiled_tells_of_each_hot_module(module: str) -> None:
    file = importlib.import_module(module).__file__
    assert file is not None
    assert wireroom.core.compiled is (Path(file).suffix != ".py")


@pytest.mark.slow
def test_sdist_holds_what_it_takes_to_test_it(distributions: Distributions) -> None:
    with tarfile.open(distributions.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    here = Path(__file__).relative_to(ROOT).as_posix()
    assert {
        here,
        "Makefile",
        "hatch_build.py",
        "constraints.txt",
        "LICENSE",
        "README.md",
        ".ci/run",
    } <= names
    assert not [name for name in names if name.startswith((".venv", "build/", "dist/"))]


def _imported(environment: Environment, folder: Path) -> tuple[Path, Path]:
    """Where an interpreter in an empty folder finds the two packages."""
    empty = folder / "empty"
    empty.mkdir()
    core, transports = environment.run(IMPORT_ALL, cwd=empty).splitlines()
    return Path(core), Path(transports)
