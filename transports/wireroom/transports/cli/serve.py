"""`wireroom serve`: an app on a transport, until a signal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from typing import Any, Final

import click

from wireroom.backplanes import Backplane
from wireroom.core import App, ConfigurationError, Limits
from wireroom.operations import logs, operations_of

from ..drain import ShutdownReport
from ..listening import BACKLOG, ListenOptions, close_listeners, format_address, open_listeners
from ..tls import Certificate
from .certificates import reload_at_sighup
from .limits import replace_limits
from .loading import load_app
from .notify import notify, take_notify_socket
from .problems import explained, option_names
from .reloading import inherited_sockets, serve_and_reload
from .reports import report
from .running import TRANSPORTS, Listening, run_on
from .sharing import close_for_workers, open_for_workers
from .worker import Worker, this_worker

_WORKERS_MAX: Final = 256


def _octal(context: click.Context, parameter: click.Parameter, text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise click.BadParameter(f"must be octal, as 660 is, not {text!r}") from None


@click.command(short_help="Serve an app until SIGINT or SIGTERM.")
@click.argument("app", metavar="APP", envvar="WIREROOM_APP")
@click.option(
    "--transport",
    type=click.Choice(TRANSPORTS),
    default="asyncio",
    show_default=True,
    help="What runs it: a loop of asyncio or uvloop, anyio's tasks on asyncio, trio, or threads.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="An address, or a name: all its addresses. '*': every interface, IPv4 and IPv6.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8301,
    show_default=True,
    help="0: any free one; the line on stderr says which.",
)
@click.option("--unix", metavar="PATH", help="Listen on a Unix socket instead of TCP.")
@click.option(
    "--unix-mode",
    metavar="MODE",
    default="660",
    show_default=True,
    callback=_octal,
    help="The permissions of that socket's file, in octal.",
)
@click.option(
    "--inherited",
    is_flag=True,
    help="Listen on the sockets that systemd has opened for this process (LISTEN_FDS).",
)
@click.option(
    "--reuse-port",
    is_flag=True,
    help="SO_REUSEPORT: several processes listen on the same port, and share its connections.",
)
@click.option(
    "--backlog",
    metavar="N",
    type=int,
    default=BACKLOG,
    show_default=True,
    help="How many connections wait to be accepted.",
)
@click.option("--certfile", metavar="FILE", help="A certificate chain (PEM): TLS, https and wss.")
@click.option("--keyfile", metavar="FILE", help="Its private key; by default in the same file.")
@click.option(
    "--keyfile-password",
    metavar="TEXT",
    help="What opens an encrypted key. Better set by its variable, which other users do not see.",
)
@click.option(
    "--client-ca",
    metavar="FILE",
    help="Who signs clients' certificates; clients without one are served all the same.",
)
@click.option("--require-client-cert", is_flag=True, help="Serve no clients without one.")
@click.option(
    "--grace-s",
    metavar="SECONDS",
    type=float,
    default=5.0,
    show_default=True,
    help="How long sessions and handlers have to end after the signal; then they are aborted.",
)
@click.option(
    "--spread-s",
    metavar="SECONDS",
    type=float,
    default=0.0,
    show_default=True,
    help="Close sessions over so long, that clients do not all return at once.",
)
@click.option(
    "--close-code",
    type=click.Choice(["1001", "1012"]),
    help="What sessions are told: 1001 going away (the default), or 1012 restart (with --reload).",
)
@click.option(
    "--limit",
    "limits",
    metavar="NAME=VALUE",
    multiple=True,
    help="Replace one of the app's Limits, as in --limit message_bytes_max=65536. Repeatable.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, _WORKERS_MAX),
    help="So many processes on the port, each with the app, and one that watches over them.",
)
@click.option(
    "--worker-port",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    help="With --workers: each also listens on 127.0.0.1, on this port and those that follow.",
)
@click.option(
    "--unready-s",
    metavar="SECONDS",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="With --workers: how long /readyz says 503 before the end begins.",
)
@click.option(
    "--redis-url",
    metavar="URL",
    help="Be one of several nodes, or workers, that this Redis joins. Better set by its variable.",
)
@click.option("--redis-cluster", is_flag=True, help="That URL is of a Redis Cluster.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: all that is said on stderr is one object a line.",
)
@click.option(
    "--log-level",
    type=click.Choice(logs.LEVELS),
    default="warning",
    show_default=True,
    help="Of everything that is logged, on stderr. debug adds tracebacks of what stops the start.",
)
@click.option(
    "--reload",
    is_flag=True,
    help="For development: start again when a Python file changes. Sessions are closed with 1012.",
)
@click.option(
    "--reload-dir",
    "reload_folders",
    metavar="FOLDER",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where to look for changes; by default the current directory. Repeatable.",
)
@click.pass_context
def serve(
    context: click.Context,
    app: str,
    transport: str,
    host: str,
    port: int,
    unix: str | None,
    unix_mode: int,
    inherited: bool,
    reuse_port: bool,
    backlog: int,
    certfile: str | None,
    keyfile: str | None,
    keyfile_password: str | None,
    client_ca: str | None,
    require_client_cert: bool,
    grace_s: float,
    spread_s: float,
    close_code: str | None,
    limits: tuple[str, ...],
    workers: int | None,
    worker_port: int | None,
    unready_s: float,
    redis_url: str | None,
    redis_cluster: bool,
    log_format: logs.LogFormat,
    log_level: str,
    reload: bool,
    reload_folders: tuple[Path, ...],
) -> None:
    """Serve APP until SIGINT or SIGTERM.

    APP is module:attribute, an App or a function without arguments that gives one. The current
    directory is importable.

    \b
      wireroom serve server:app
      wireroom serve server:make_app --transport trio --port 8400
      wireroom serve server:app --reload --log-level info
      wireroom serve server:app --host '*' --certfile chain.pem --keyfile key.pem
      wireroom serve server:app --unix /run/chat.sock --unix-mode 666
      wireroom serve server:app --limit message_bytes_max=65536 --limit ping_interval_s=inf
      wireroom serve server:app --workers 4 --log-format json
      WIREROOM_SERVE_REDIS_URL=redis://localhost wireroom serve server:app --workers 4

    When it listens it says so on stderr: "listening on http://127.0.0.1:8301". A signal closes
    every session and waits --grace-s seconds; a second one ends it at once. SIGHUP reads the
    certificate again, for connections to come; without TLS it ends the process, as usual.
    With --workers, SIGUSR2 replaces one worker after another.

    Each option has a variable: WIREROOM_SERVE_PORT for --port, WIREROOM_APP for APP.

    Exit status: 0 after a signal, 1 if it fails while it runs, 2 if it cannot start: usage, an
    address in use, a certificate that cannot be read, an app that cannot be loaded or run.
    """
    take_notify_socket()
    logs.configure(log_level, log_format)
    worker = this_worker()
    options = option_names(context.command) | {
        "password": "--keyfile-password",
        "require_client_certificate": "--require-client-cert",
    }
    listen: ListenOptions = {
        "host": None if host == "*" else host,
        "port": port,
        "unix": unix,
        "unix_mode": unix_mode,
        "inherited": inherited,
        "reuse_port": reuse_port,
        "backlog": backlog,
    }
    with explained(options, debug=log_level == "debug"):
        certificate = _certificate(
            certfile,
            keyfile,
            password=keyfile_password,
            client_ca=client_ca,
            require_client_certificate=require_client_cert,
        )
        if not isfinite(unready_s):
            raise ConfigurationError("unready_s", f"must be a number of seconds, not {unready_s}")
        if workers is None or reload:
            _check_without_workers(workers, worker_port, unready_s)
        if worker is not None:
            listen = {"sockets": worker.listeners, "backlog": backlog}
        elif workers is not None:
            replace_limits(Limits(), limits)
            _serve_with_workers(
                context,
                listen,
                workers,
                worker_port,
                secure=certificate is not None,
                patience_s=spread_s + grace_s,
                unready_s=unready_s,
            )
        elif reload and (sockets := inherited_sockets()) is not None:
            listen = {"sockets": sockets, "backlog": backlog}
        elif reload:
            if sys.platform == "win32":
                raise ConfigurationError("reload", "is not supported on Windows: leave it out")
            replace_limits(Limits(), limits)  # a wrong name is wrong for good
            _serve_and_reload(
                context,
                listen,
                reload_folders,
                patience_s=spread_s + grace_s,
                sighup_ends=certificate is None,
            )
        served = load_app(app)
        served.limits = replace_limits(served.limits, limits)
        backplane = _backplane(served, redis_url, cluster=redis_cluster)
        ended = _serve(
            served,
            transport,
            certificate,
            worker,
            grace_s=grace_s,
            spread_s=spread_s,
            close_code=int(close_code or (1012 if reload else 1001)),
            backplane=backplane,
            **listen,
        )
    report(
        "ended",
        ("" if worker is None else f"worker {worker.number} ")
        + f"ended: {ended.closed} sessions closed, {ended.aborted} connections aborted,"
        f" {ended.cancelled} handlers cancelled",
        closed=ended.closed,
        aborted=ended.aborted,
        cancelled=ended.cancelled,
        dropped_messages=ended.dropped_messages,
    )


def _serve(
    app: App,
    transport: str,
    certificate: Certificate | None,
    worker: Worker | None,
    **options: Any,
) -> ShutdownReport:
    def ready(server: Listening) -> None:
        if worker is not None:
            worker.is_ready(server, lambda: _drain(app))
            return
        report("listening", _listening(server.addresses, secure=certificate is not None))
        notify("READY=1")

    if certificate is not None:
        options["ssl"] = certificate.context
        reload_at_sighup(certificate)
    return run_on(transport, app, on_ready=ready, **options)


def _listening(addresses: Iterable[Any], *, secure: bool) -> str:
    scheme = "https" if secure else "http"
    where = [
        f"{scheme}://{format_address(name)}" if isinstance(name, tuple) else format_address(name)
        for name in addresses
    ]
    return f"listening on {', '.join(where)}"


def _backplane(app: App, url: str | None, *, cluster: bool) -> Backplane | None:
    """Redis, if there is a URL; `/healthz` says how it is, if there is one."""
    if not url:
        return None
    from wireroom.backplanes.redis import RedisBackplane

    backplane = RedisBackplane(url, cluster=cluster)
    installed = operations_of(app)
    if installed is not None:
        installed.health.add_check("backplane", backplane.problem)
    return backplane


def _drain(app: App) -> None:
    """The end is near: `/readyz` says so, if there is one."""
    installed = operations_of(app)
    if installed is not None:
        installed.health.drain()


def _check_without_workers(workers: int | None, worker_port: int | None, unready_s: float) -> None:
    """Raises `ConfigurationError` for what goes with workers only, or not with them."""
    if workers is not None:
        raise ConfigurationError("workers, reload", "exclude each other: give only one of them")
    if worker_port is not None:
        raise ConfigurationError("worker_port", "is for workers: give --workers too, or leave it")
    if unready_s:
        raise ConfigurationError("unready_s", "is for workers: give --workers too (1 is enough)")


def _serve_with_workers(
    context: click.Context,
    listen: ListenOptions,
    workers: int,
    worker_port: int | None,
    *,
    secure: bool,
    patience_s: float,
    unready_s: float,
) -> None:
    """Raises SystemExit with the status."""
    if sys.platform == "win32":
        raise ConfigurationError("workers", "are not supported on Windows: leave it out")
    from .workers import Supervisor, worker_command  # by signals that Windows does not have

    arguments = sys.argv[1:] if context.obj is None else context.obj
    sockets = open_for_workers(workers, listen, worker_port)
    try:
        shared = sockets[0] if worker_port is None else sockets[0][:-1]
        supervisor = Supervisor(
            worker_command(arguments),
            sockets,
            patience_s=patience_s,
            unready_s=unready_s,
            sighup_ends=not secure,
            listening=_listening([sock.getsockname() for sock in shared], secure=secure),
        )
        status = supervisor.run()
    finally:
        close_for_workers(sockets)
    raise SystemExit(status)


def _serve_and_reload(
    context: click.Context, listen: ListenOptions, folders: tuple[Path, ...], **how: Any
) -> None:
    """Raises SystemExit with the status."""
    arguments = sys.argv[1:] if context.obj is None else context.obj
    listeners = open_listeners(**listen)
    try:
        watched = folders or (Path.cwd(),)
        status = serve_and_reload(arguments, listeners, watched, **how)
    finally:
        close_listeners(listeners)
    raise SystemExit(status)


def _certificate(certfile: str | None, keyfile: str | None, **options: Any) -> Certificate | None:
    if certfile is not None:
        return Certificate(certfile, keyfile, **options)
    given = {"keyfile": keyfile, **options}
    for name, value in given.items():
        if value:
            raise ConfigurationError(name, "is for TLS: give --certfile too, or leave it")
    return None
