"""Run Autobahn's fuzzing client against our echo server, on each transport, and judge the result.

    make autobahn                              all 517 cases, all servers, two at a time
    SERVERS='blocking trio' make autobahn      some servers (`run.py --help` lists them)
    CASES='1.*,-1.1.8' make autobahn           some cases; a leading "-" leaves out
    COMP_COUNT=1000 make autobahn              messages in a compression case (the suite's own
                                               number is 1000, ours 20, which tests the same)
    run.py --command 'python other_server.py'  another server, which gets `--port 0` and prints
                                               `listening on 127.0.0.1:PORT` first

The suite runs on Python 2.7 only. It is installed once, below .venv/. AUTOBAHN_PYTHON names the
interpreter where it is not found by itself. Reports go to build/autobahn/SERVER/index.html.

Exit status: 0 all as it should be, 1 some case is not or the suite failed, 2 it could not be run.
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SUITE = ROOT / ".venv" / "autobahn"
REPORTS = ROOT / "build" / "autobahn"
CONSTRAINTS = HERE / "constraints-py27.txt"

CASES_TOTAL = 517
COMP_COUNT_DEFAULT = 20
# The suite has no verdict on these: it only reports what the server did.
INFORMATIONAL = frozenset({"7.1.6", "7.13.1", "7.13.2"})
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
RUN_TIMEOUT_S = 1200.0

PYTHON_MISSING = """\
Autobahn's test suite needs Python 2.7 with pip, and none was found on PATH or in pyenv.
How to get one:
    pyenv install 2.7.18      compiles it; found by itself afterwards
    AUTOBAHN_PYTHON=PATH      names an interpreter that is somewhere else
"""

# Run by Python 2.7: the suite with fewer messages in its compression cases (groups 12 and 13).
LAUNCHER = """\
import os
import autobahntestsuite.wstest
from autobahntestsuite import case
count = int(os.environ["COMP_COUNT"])
for one in case.Cases:
    if one.__name__.startswith(("Case12_", "Case13_")):
        one.COUNT = count
autobahntestsuite.wstest.run()
"""


@dataclass(frozen=True, slots=True)
class Server:
    """What is run against the suite: the arguments of a program in this folder. Of cases in
    `host_decides` (patterns, and why) only the result is reported, for the framing is not ours."""

    arguments: tuple[str, ...]
    host_decides: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> list[str]:
        """The program, without `--port`."""
        return [sys.executable, str(HERE / self.arguments[0]), *self.arguments[1:]]


# What an ASGI server's framing decides before our app hears of it.
ASGI_DECIDES = {
    "3.[234]": "whether messages before a violation are answered",
    "4.[12].[345]": "whether messages before a violation are answered",
    "5.15": "whether messages before a violation are answered",
}
UVICORN_DECIDES = ASGI_DECIDES | {
    "6.4.[1234]": "text is checked when the message is whole",
    "7.1.5": "the code after a message that is not whole",
}

SERVERS = {
    "asyncio": Server(("server.py", "--transport", "asyncio")),
    "asyncio-wsproto": Server(("server.py", "--transport", "asyncio", "--framing", "wsproto")),
    "uvloop": Server(("server.py", "--transport", "uvloop")),
    "anyio-asyncio": Server(("server.py", "--transport", "anyio-asyncio")),
    "trio": Server(("server.py", "--transport", "trio")),
    "blocking": Server(("server.py", "--transport", "blocking")),
    "uvicorn": Server(("asgi_server.py", "--host", "uvicorn"), UVICORN_DECIDES),
    "hypercorn": Server(("asgi_server.py", "--host", "hypercorn"), ASGI_DECIDES),
    "hypercorn-trio": Server(("asgi_server.py", "--host", "hypercorn-trio"), ASGI_DECIDES),
}


class CannotRunError(Exception):
    """The suite or the server cannot be started; the text says what to do."""


@dataclass(slots=True)
class Verdict:
    """What is wrong with one run, and how many of its cases were right."""

    passed: int = 0
    faults: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)  # what the host's framing decided
    notes: list[str] = field(default_factory=list)


# --- judging -------------------------------------------------------------------------------------


def judge(
    wanted: Sequence[str],
    results: Mapping[str, Mapping[str, str]],
    host_decides: Mapping[str, str] | None = None,
) -> Verdict:
    """Every wanted case ran, is OK in what it did and in how it closed, and none is NON-STRICT.

    What a case in `host_decides` did otherwise is no fault, but named; it has to run."""
    verdict = Verdict()
    for case in wanted:
        if case not in results:
            verdict.faults[case] = "did not run"
        elif fault := _fault(case, results[case]):
            why = [reason for one, reason in (host_decides or {}).items() if _matches(case, one)]
            if why:
                verdict.hosts[case] = f"{fault} ({why[0]})"
            else:
                verdict.faults[case] = fault
        else:
            verdict.passed += 1
            if results[case]["behavior"] == "INFORMATIONAL":
                verdict.notes.append(f"{case}: INFORMATIONAL, as it should be")
    return verdict


def _matches(case: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(case, pattern)


def _fault(case: str, result: Mapping[str, str]) -> str | None:
    allowed = {"OK", "INFORMATIONAL"} if case in INFORMATIONAL else {"OK"}
    if result["behavior"] in allowed and result["behaviorClose"] in allowed:
        return None
    return f"behavior {result['behavior']}, close {result['behaviorClose']}"


def _judge_reports(
    folder: Path, agent: str, host_decides: Mapping[str, str], *, complete: bool
) -> Verdict:
    """Judge what the suite left in `folder`; `complete` if all of its cases were asked for."""
    index = folder / "index.json"
    log = (folder / "wstest.log").read_text("utf-8", "replace")
    if not index.is_file():
        tail = "\n".join(log.splitlines()[-15:])
        return Verdict(faults={"the suite": f"wrote no report; its last words:\n{tail}"})
    results = json.loads(index.read_text("utf-8")).get(agent, {})
    listed = re.search(r"^Cases = (\[.*\])$", log, re.MULTILINE)
    wanted: list[str] = ast.literal_eval(listed[1]) if listed else []
    verdict = judge(wanted, results, host_decides)
    for case in verdict.faults.keys() & results.keys():
        verdict.faults[case] += _explanation(folder / results[case]["reportfile"])
    if not wanted:
        verdict.faults["the suite"] = "chose no case"
    elif complete and len(wanted) != CASES_TOTAL:
        verdict.faults["the suite"] = f"has {len(wanted)} cases, not {CASES_TOTAL}"
    for kind in ("behavior", "behaviorClose"):
        counts = collections.Counter(result[kind] for result in results.values())
        verdict.notes.append(f"{kind}: " + ", ".join(f"{n} {k}" for k, n in sorted(counts.items())))
    return verdict


def _explanation(report: Path) -> str:
    said = json.loads(report.read_text("utf-8"))
    return f": {said['result']} {said['resultClose']}"


# --- the suite, on Python 2.7 --------------------------------------------------------------------


def _find_python27() -> str:
    if chosen := os.environ.get("AUTOBAHN_PYTHON"):
        candidates = [chosen]
    else:
        pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
        candidates = [str(path) for path in sorted(pyenv.glob("versions/2.7.*/bin/python2.7"))]
        # Last, for a pyenv shim may exist and lead nowhere.
        candidates += [path for path in [shutil.which("python2.7")] if path]
    for candidate in candidates:
        with contextlib.suppress(OSError):
            probe = [candidate, "-c", "import sys, pip; sys.exit(sys.version_info[:2] != (2, 7))"]
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return candidate
    if chosen:
        raise CannotRunError(f"AUTOBAHN_PYTHON={chosen} is no Python 2.7 with pip.\n")
    raise CannotRunError(PYTHON_MISSING)


def _suite_environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "PIP_CONSTRAINT"}
    return {**kept, "PYTHONPATH": str(SUITE), "PYTHONDONTWRITEBYTECODE": "1"}


def _install_suite(python27: str) -> None:
    """Install into a folder of its own (pip --target), so that the interpreter is left alone."""
    stamp = SUITE / "installed"
    constraints = CONSTRAINTS.read_text("utf-8")
    if stamp.is_file() and stamp.read_text("utf-8") == constraints:
        return
    print(f"installing Autobahn's test suite into {SUITE.relative_to(ROOT)}", flush=True)
    shutil.rmtree(SUITE, ignore_errors=True)
    command = [python27, "-W", "ignore", "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--quiet", "--target", str(SUITE), "-c", str(CONSTRAINTS), "autobahntestsuite"]
    environment = _suite_environment()
    del environment["PYTHONPATH"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise CannotRunError(f"Autobahn's test suite could not be installed:\n{said}\n")
    # zope is a namespace made by a .pth file, and those are not read from PYTHONPATH.
    (SUITE / "zope" / "__init__.py").touch()
    stamp.write_text(constraints, "utf-8")


def _spec(folder: Path, agent: str, port: int, cases: str) -> dict[str, object]:
    patterns = [pattern for pattern in re.split(r"[,\s]+", cases) if pattern]
    return {
        "outdir": str(folder),
        "servers": [{"agent": agent, "url": f"ws://127.0.0.1:{port}/"}],
        "cases": [pattern for pattern in patterns if not pattern.startswith("-")] or ["*"],
        "exclude-cases": [pattern[1:] for pattern in patterns if pattern.startswith("-")],
        "exclude-agent-cases": {},
    }


def _run_suite(python27: str, folder: Path, comp_count: int) -> str | None:
    """Run the fuzzing client; what went wrong with the run itself, if anything did.

    It ends with status 0 whatever the server did, and early if the server has gone.
    """
    command = [python27, "-u", "-W", "ignore", "-c", LAUNCHER]
    command += ["-m", "fuzzingclient", "-s", str(folder / "spec.json")]
    environment = {**_suite_environment(), "COMP_COUNT": str(comp_count)}
    with (folder / "wstest.log").open("wb") as log:
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=RUN_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"the suite did not end within {RUN_TIMEOUT_S:.0f} s"
    return f"the suite ended with status {done.returncode}" if done.returncode else None


# --- our server ----------------------------------------------------------------------------------


def _port(server: subprocess.Popen[bytes], log: Path) -> int:
    """The port from the server's first line, which it prints once it listens."""
    deadline = time.monotonic() + START_TIMEOUT_S
    said = ""
    while time.monotonic() < deadline:
        said = log.read_text("utf-8", "replace")
        if match := re.match(r"listening on 127\.0\.0\.1:(\d+)\n", said):
            return int(match[1])
        if server.poll() is not None or "\n" in said:
            break
        time.sleep(0.05)
    raise CannotRunError(f"the server did not say `listening on 127.0.0.1:PORT` but:\n{said}\n")


@contextlib.contextmanager
def _serving(command: Sequence[str], folder: Path, faults: list[str]) -> Iterator[int]:
    """Our server as a process of its own; its port. How it ends is judged too."""
    log = folder / "server.log"
    with log.open("wb") as output, (folder / "server.err").open("wb") as errors:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        try:
            yield _port(server, log)
            if server.poll() is not None:
                faults.append(f"the server ended by itself with status {server.returncode}")
        finally:
            if server.poll() is None and not _stopped(server):
                faults.append(f"the server did not end within {STOP_TIMEOUT_S:.0f} s of SIGTERM")


def _stopped(server: subprocess.Popen[bytes]) -> bool:
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
        return False
    return True


# --- one run, and the program --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line and the environment ask for."""

    servers: Mapping[str, Server]
    command: Sequence[str]  # instead of the servers' own, if there is one
    cases: str
    comp_count: int
    jobs: int


def _run(python27: str, name: str, asked: Asked) -> bool:
    """One server against the suite; whether all was as it should be."""
    server = asked.servers[name]
    folder = REPORTS / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    faults: list[str] = []
    started = time.monotonic()
    with _serving([*(asked.command or server.command), "--port", "0"], folder, faults) as port:
        spec = _spec(folder, name, port, asked.cases)
        (folder / "spec.json").write_text(json.dumps(spec, indent=1), "utf-8")
        if fault := _run_suite(python27, folder, asked.comp_count):
            faults.append(fault)
    complete = asked.cases.strip() == "*"
    verdict = _judge_reports(folder, name, server.host_decides, complete=complete)
    faults += [f"{subject}: {fault}" for subject, fault in verdict.faults.items()]
    seconds = time.monotonic() - started
    summary = f"autobahn, {name}: {verdict.passed} cases as they should be, faults: {len(faults)}"
    if server.host_decides:
        summary += f", decided by the host: {len(verdict.hosts)}"
    lines = [f"{summary}, {seconds:.1f} s, {folder.relative_to(ROOT)}/index.html"]
    lines += verdict.notes
    lines += [f"HOST {case}: {result}" for case, result in verdict.hosts.items()]
    lines += [f"FAULT {fault}" for fault in faults]
    print("\n  ".join(lines), flush=True)  # in one piece, for others print too
    return not faults


def _parse_arguments() -> Asked:
    summary, _, usage = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("servers", nargs="*", help=f"of {', '.join(SERVERS)}; default: all")
    parser.add_argument("--command", type=shlex.split, default=[])
    parser.add_argument("--jobs", type=int, default=2, help="servers at a time; default: 2")
    arguments = parser.parse_args()
    names = arguments.servers or (os.environ.get("SERVERS") or "").split() or list(SERVERS)
    if arguments.command:
        servers = {"other": Server(())}
    elif unknown := [name for name in names if name not in SERVERS]:
        raise CannotRunError(f"no such server: {', '.join(unknown)}; of {', '.join(SERVERS)}\n")
    else:
        servers = {name: SERVERS[name] for name in names}
    given = os.environ.get("COMP_COUNT") or str(COMP_COUNT_DEFAULT)
    if not given.isdecimal() or int(given) < 1:
        raise CannotRunError(f"COMP_COUNT={given} is no number of messages.\n")
    return Asked(
        servers, arguments.command, os.environ.get("CASES") or "*", int(given), arguments.jobs
    )


def main() -> int:
    """Install, run, judge; the exit status."""
    try:
        asked = _parse_arguments()
        python27 = _find_python27()
        _install_suite(python27)
        with ThreadPoolExecutor(max(asked.jobs, 1)) as pool:
            good = list(pool.map(lambda name: _run(python27, name, asked), asked.servers))
    except CannotRunError as error:
        print(error, end="", file=sys.stderr)
        return 2
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
