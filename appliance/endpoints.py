"""The addresses of the appliance: what it binds, what enrolment codes name.

Rules: port 0 means "choose". Whichever comes first, a printed enrolment code or the service, picks free ports and
remembers them, so that codes agree with the service whatever the order; the service picks others only where the
remembered ones were taken meanwhile, and says so. Options given to `serve` are remembered for the same reason.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from appliance.settings import ChosenPorts, Home, Settings
from transport.errors import UsageError

_ADDRESS: Final = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9.-]+|\*)):(?P<port>[0-9]{1,5})")
_WILDCARDS: Final = frozenset({"0.0.0.0", "::", "*"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and a TCP port; port 0 means "choose"."""

    host: str
    port: int

    @property
    def is_everywhere(self) -> bool:
        """Whether it stands for all of the machine's addresses."""
        return self.host in _WILDCARDS

    @property
    def host_port(self) -> str:
        """`host:port`, with brackets around IPv6."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"tcp://{self.host_port}"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where each part listens, ports concrete."""

    transport: Endpoint
    enrolment: Endpoint
    web: Endpoint


@dataclass(frozen=True, slots=True)
class Prepared:
    """Addresses for the service to bind, its settings, and sentences for the operator about what changed."""

    addresses: Addresses
    settings: Settings
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overrides:
    """Addresses given on the command line; None leaves what is remembered. They are remembered in turn."""

    listen: str | None = None
    enrol_listen: str | None = None
    web: str | None = None
    public_host: str | None = None
    web_certificate: str | None = None
    web_key: str | None = None
    behind_proxy: bool | None = None


def parse_listen(text: str, option: str = "--listen") -> Endpoint:
    """`tcp://HOST:PORT`; UsageError that names the option otherwise."""
    if not text.startswith("tcp://"):
        raise UsageError(f"{option} {text!r} is not of the form tcp://HOST:PORT (port 0: choose)")
    return _parse(text.removeprefix("tcp://"), option, "tcp://HOST:PORT")


def parse_web(text: str, option: str = "--web") -> Endpoint:
    """`HOST:PORT`; UsageError that names the option otherwise."""
    return _parse(text.removeprefix("http://"), option, "HOST:PORT")


def checked_public_host(text: str) -> str:
    """A host name or address that agents can reach; UsageError otherwise. Empty means "derive it"."""
    if text and (text in _WILDCARDS or not re.fullmatch(r"[A-Za-z0-9.-]{1,253}|[0-9a-fA-F:]{2,45}", text)):
        raise UsageError(f"--public-host {text!r} is not a host name or address that agents could connect to")
    return text


def _parse(text: str, option: str, form: str) -> Endpoint:
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise UsageError(f"{option} {text!r} is not of the form {form} (port 0 to 65535, 0: choose)")
    host = match["six"] or match["host"]
    return Endpoint("0.0.0.0" if host == "*" else host, int(match["port"]))


def checked(settings: Settings) -> Settings:
    """The settings, once all of their addresses parse; UsageError otherwise."""
    _configured(settings)
    checked_public_host(settings.public_host)
    _check_tls(settings)
    return settings


def _check_tls(settings: Settings) -> None:
    """UsageError where certificate and key of the web interface are not both there and readable."""
    if bool(settings.web_certificate) != bool(settings.web_key):
        raise UsageError("--web-certificate and --web-key come together: give both, or neither")
    if settings.web_certificate and settings.behind_proxy:
        raise UsageError("--behind-proxy means that a proxy ends TLS: leave --web-certificate out, or --behind-proxy")
    for option, name in (("--web-certificate", settings.web_certificate), ("--web-key", settings.web_key)):
        if name and not (Path(name).is_file() and os.access(name, os.R_OK)):
            raise UsageError(f"{option} {name} is not a file that can be read: check its path and its owner")


def _configured(settings: Settings) -> Addresses:
    """The addresses as configured, ports possibly 0."""
    transport = parse_listen(settings.listen)
    if settings.enrol_listen:
        enrolment = parse_listen(settings.enrol_listen, "--enrol-listen")
    elif transport.port == 65535:
        raise UsageError("--listen with port 65535 leaves no next port for enrolment: give --enrol-listen too")
    else:
        enrolment = Endpoint(transport.host, transport.port + 1 if transport.port else 0)
    if enrolment.port and enrolment.port == transport.port:
        raise UsageError(f"--enrol-listen and --listen share port {transport.port}: give two different ones")
    return Addresses(transport, enrolment, parse_web(settings.web))


def current(home: Home) -> Addresses:
    """The addresses that codes name and the service binds; ports that are to be chosen are chosen now and kept."""
    with home.settings_locked():
        settings = checked(home.load_settings())
        settings = _choose(home, settings, ChosenPorts())
        return _concrete(settings)


def remembered(home: Home) -> Addresses:
    """The addresses as far as they are known, changing nothing; ports that are still to be chosen are 0."""
    return _concrete(checked(home.load_settings()))


def remember(home: Home, overrides: Overrides) -> None:
    """Keep addresses given on the command line; UsageError, and nothing kept, where one is not an address."""
    with home.settings_locked():
        _remember(home, overrides)


def _remember(home: Home, overrides: Overrides) -> Settings:
    before = home.load_settings()
    changes = {
        name: value
        for name in Overrides.__slots__
        if (value := getattr(overrides, name)) is not None
    }
    settings = checked(msgspec.structs.replace(before, **changes))
    if settings != before:
        home.save_settings(settings)
    return settings


def prepare_to_serve(home: Home, overrides: Overrides) -> Prepared:
    """What the service binds now. Chosen ports that another program took meanwhile are chosen anew."""
    with home.settings_locked():
        settings = _remember(home, overrides)
        configured, remembered = _configured(settings), settings.chosen_ports
        taken = ChosenPorts(
            *(
                port if not endpoint.port and port and not is_free(Endpoint(endpoint.host, port)) else 0
                for endpoint, port in (
                    (configured.transport, remembered.transport),
                    (configured.enrolment, remembered.enrolment),
                    (configured.web, remembered.web),
                )
            )
        )
        settings = _choose(home, settings, taken)
        notices = tuple(
            f"port {old} for {name} is taken by another program; using {new} from now on"
            + ("" if name == "web" else ": enrolment codes and agents that know the old one will not find it")
            for name, old, new in (
                ("transport", taken.transport, settings.chosen_ports.transport),
                ("enrolment", taken.enrolment, settings.chosen_ports.enrolment),
                ("web", taken.web, settings.chosen_ports.web),
            )
            if old
        )
        return Prepared(_concrete(settings), settings, notices)


def _choose(home: Home, settings: Settings, taken: ChosenPorts) -> Settings:
    """Fill in ports that are to be chosen and are not yet, or are `taken`; saved where anything changed."""
    configured, chosen = _configured(settings), settings.chosen_ports
    with contextlib.ExitStack() as held:
        # Sockets stay bound until all are chosen, so that two addresses never get the same port.
        def port(endpoint: Endpoint, known: int, lost: int) -> int:
            if endpoint.port:
                return 0
            if known and not lost:
                return known
            sock = held.enter_context(_socket(endpoint.host))
            try:
                sock.bind((endpoint.host, 0))
            except OSError as error:
                raise UsageError(f"no port can be opened on {endpoint.host}: {error.strerror}") from None
            return int(sock.getsockname()[1])

        picked = ChosenPorts(
            port(configured.transport, chosen.transport, taken.transport),
            port(configured.enrolment, chosen.enrolment, taken.enrolment),
            port(configured.web, chosen.web, taken.web),
        )
    if picked != chosen:
        settings = msgspec.structs.replace(settings, chosen_ports=picked)
        home.save_settings(settings)
    return settings


def _concrete(settings: Settings) -> Addresses:
    configured, chosen = _configured(settings), settings.chosen_ports
    return Addresses(
        Endpoint(configured.transport.host, configured.transport.port or chosen.transport),
        Endpoint(configured.enrolment.host, configured.enrolment.port or chosen.enrolment),
        Endpoint(configured.web.host, configured.web.port or chosen.web),
    )


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)


def is_free(endpoint: Endpoint) -> bool:
    """Whether nothing listens there; an address that is not this machine's counts as not free."""
    with _socket(endpoint.host) as sock:
        # As ZeroMQ binds: connections of the last run that linger in TIME_WAIT do not count.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((endpoint.host, endpoint.port))
        except OSError as error:
            return error.errno == errno.EACCES
    return True


def public(endpoint: Endpoint, settings: Settings) -> Endpoint:
    """The endpoint as agents are told it: all-addresses becomes this machine's name unless one was configured."""
    if settings.public_host:
        return Endpoint(settings.public_host, endpoint.port)
    if not endpoint.is_everywhere:
        return endpoint
    name = socket.gethostname()
    if "." not in name:
        full = socket.getfqdn()
        name = name if full.startswith("localhost") else full
    return Endpoint(name, endpoint.port)
