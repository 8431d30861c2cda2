"""TLS on the line port and HTTP: who gets in, what is refused, and how certificates change."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import urllib.request

import pytest

from conftest import PGLOCKCTL, PGLOCKD, Daemon, need_tool
from lines import Lines, eventually, parse
from pki import Pki, TlsLines, context_for, last_words

pytestmark = pytest.mark.xdist_group("tls")
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return Pki(need_tool("openssl"), tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def strangers(tmp_path_factory):
    """Another CA, which nobody trusts."""
    return Pki(need_tool("openssl"), tmp_path_factory.mktemp("strangers"), "strangers")


def arguments_of(pair, *more):
    return ("--http", "tls://127.0.0.1:0", "--tls-cert", str(pair[0]), "--tls-key", str(pair[1]),
            *map(str, more))


class TlsDaemon(Daemon):
    listens_on = ("--listen", "tls://127.0.0.1:0")


@pytest.fixture(scope="session")
def served(pki, directory):
    """A daemon that takes clients with and without a certificate of the CA."""
    one = TlsDaemon(directory / "tls")
    one.start(*arguments_of(pki.issue("server"), "--tls-client-ca", pki.ca))
    yield one
    assert one.stop() == 0, one.log()


@pytest.fixture
def make_tls(served, directory):
    """A function that starts a daemon with its own TLS settings on the same database."""
    made = []

    def start(pair, *more):
        made.append(TlsDaemon(directory / f"tls{os.urandom(4).hex()}", dsn=served.dsn))
        return made[-1].start(*arguments_of(pair, *more))
    yield start
    for one in made:
        if one.is_running():
            assert one.stop() == 0, one.log()


@pytest.fixture
def tls(served, pki):
    """A function that connects to the served daemon, or another, in TLS."""
    with contextlib.ExitStack() as stack:
        def open_one(to=served, **how):
            how.setdefault("ca", pki.ca)
            return stack.enter_context(TlsLines(to.line, context_for(**how)))
        yield open_one


def ctl(address, *arguments, **variables):
    environment = dict(os.environ, PGLOCKCTL_CONNECT=address,
                       **{f"PGLOCKCTL_TLS_{k.upper()}": str(v) for k, v in variables.items()})
    return subprocess.run([PGLOCKCTL, *map(str, arguments)], env=environment, text=True,
                          capture_output=True, timeout=60, check=False)


def handshakes(daemon, pki, outcome):
    return metric(daemon, pki, f'pglockd_tls_handshakes_total{{outcome="{outcome}"}}')


def metric(daemon, pki, name):
    with urllib.request.urlopen(f"https://{daemon.http}/metrics", timeout=60,
                                context=context_for(pki.ca)) as reply:
        lines = reply.read().decode().splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " ")), 0)


# ---- lines ----

@pytest.mark.parametrize("version", VERSIONS)
def test_lines_go_over_tls(tls, resource, version):
    client = tls(version=version)
    token = client.lock(resource)
    assert client.ask(f"LOCK {resource}").status == "BUSY"
    assert client.ask_ok(f"UNLOCK {resource} token={token}")


def test_older_versions_are_refused(served, pki, tls):
    before = handshakes(served, pki, "failed")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        tls(version=ssl.TLSVersion.TLSv1_1)
    assert eventually(lambda: handshakes(served, pki, "failed") > before)


@pytest.mark.parametrize("version", VERSIONS)
def test_many_records_in_both_directions(served, pki, version):
    """More than the sockets hold: the daemon has to stop while it writes, and goes on."""
    context = context_for(pki.ca, version=version)
    with TlsLines(served.line, context, receive_buffer=4096) as client:
        for _ in range(20):
            client.send_bytes(b"HELP LOCK\n" * 900 + b"PING\n" * 9000)
            assert {client.reply().status for _ in range(9900)} == {"OK"}


def test_a_line_of_the_greatest_length(tls):
    client = tls()
    assert client.ask("PING " + "x" * 65531).code == "bad_request"
    assert client.ask("PING " + "x" * 65532).code == "too_long"
    client.ask_ok("PING")


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_asked_is_answered_when_the_input_ends(served, pki, resource, version):
    lines = last_words(served.line, context_for(pki.ca, version=version),
                       f"LOCK {resource}\nPING\n".encode())
    assert [parse(line).status for line in lines] == ["OK", "OK", "BYE"]


def test_plain_text_on_a_tls_port_gets_nowhere(served, pki):
    before = handshakes(served, pki, "failed")
    with Lines(served.line) as client:
        client.send("PING")
        with contextlib.suppress(AssertionError):
            assert client.read_line() is None
    assert eventually(lambda: handshakes(served, pki, "failed") > before)


def test_a_client_that_says_nothing_is_closed(make_tls, pki):
    daemon = make_tls(pki.issue("silent"), "--auth-timeout", "200ms")
    name = 'pglockd_connections_closed_total{reason="auth_timeout"}'

    def come_in():
        """On a busy machine a handshake may last as long."""
        with contextlib.suppress(OSError, AssertionError):
            client = TlsLines(daemon.line, context_for(pki.ca))
            client.ask_ok("PING")
            return client
        return None
    with eventually(come_in) as client:
        before = metric(daemon, pki, name)
        with Lines(daemon.line) as silent:
            assert silent.read_line() is None
        client.ask_ok("PING")
    assert eventually(lambda: metric(daemon, pki, name) > before)


def test_a_web_page_gets_nowhere_in_tls_either(tls):
    client = tls()
    client.send("GET / HTTP/1.1", "Host: localhost")
    assert client.read_line() is None


# ---- who the daemon is ----

def test_pglockctl_speaks_tls(served, pki, resource):
    address = f"tls://{served.line}"
    taken = ctl(address, "lock", resource, ca=pki.ca)
    assert taken.returncode == 0, taken.stderr
    assert ctl(f"tls://localhost:{served.line.rsplit(':', 1)[1]}", "unlock", resource,
               f"token={taken.stdout.strip()}", ca=pki.ca).returncode == 0


def test_run_renews_over_tls(served, pki, resource):
    name = 'pglockd_requests_total{verb="renew",status="OK"}'
    before = metric(served, pki, name)
    process = subprocess.Popen([PGLOCKCTL, "run", "--ttl", "12s", resource, "--", "sh", "-c", "read x"],
                               env=dict(os.environ, PGLOCKCTL_CONNECT=f"tls://{served.line}",
                                        PGLOCKCTL_TLS_CA=str(pki.ca)),
                               text=True, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        eventually(lambda: metric(served, pki, name) > before)
        _, said = process.communicate("\n", timeout=60)
        assert process.returncode == 0, said
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("case", ["no_ca", "foreign_ca", "wrong_name"])
def test_a_wrong_certificate_of_the_daemon_is_refused(served, pki, strangers, resource, case):
    how = {"no_ca": {}, "foreign_ca": {"ca": strangers.ca},
           "wrong_name": {"ca": pki.ca, "name": "db.example.org"}}[case]
    refused = ctl(f"tls://{served.line}", "lock", resource, **how)
    assert refused.returncode == 69
    assert "certificate" in refused.stderr and "CERT" not in refused.stdout
    with Lines(served.unix_address) as client:
        assert client.ask_ok(f"INFO {resource}")["holders"] == []


def test_an_expired_certificate_of_the_daemon_is_refused(make_tls, pki):
    daemon = make_tls(pki.issue("old", days=-1), "--http", "off")
    refused = ctl(f"tls://{daemon.line}", "stats", ca=pki.ca)
    assert refused.returncode == 69 and "expired" in refused.stderr


# ---- who the client is ----

def test_a_certificate_of_the_ca_is_taken(served, pki, tls):
    tls(pair=pki.issue("client")).ask_ok("PING")
    assert ctl(f"tls://{served.line}", "stats", ca=pki.ca, cert=pki.directory / "client.crt",
               key=pki.directory / "client.key").returncode == 0


def turned_away(daemon, context):
    """In TLS 1.3 the client learns of it with the first it reads."""
    with contextlib.suppress(ssl.SSLError, ConnectionError), \
            TlsLines(daemon.line, context) as client:
        client.send("PING")
        return client.read_line() is None
    return True


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ["foreign", "expired", "of_a_server"])
def test_a_wrong_certificate_of_the_client_is_turned_away(served, pki, strangers, case, version):
    pair = {"foreign": lambda: strangers.issue("foreign"),
            "expired": lambda: pki.issue("expired", days=-1),
            "of_a_server": lambda: pki.issue("of_a_server", usage="serverAuth")}[case]()
    before = handshakes(served, pki, "not_trusted")
    assert turned_away(served, context_for(pki.ca, pair, version))
    assert eventually(lambda: handshakes(served, pki, "not_trusted") == before + 1)


def test_a_certificate_may_be_required(make_tls, pki):
    daemon = make_tls(pki.issue("strict"), "--tls-client-ca", pki.ca, "--tls-client-cert", "required")
    assert turned_away(daemon, context_for(pki.ca))
    with TlsLines(daemon.line, context_for(pki.ca, pki.issue("named"))) as client:
        client.ask_ok("PING")
    # Why is in an alert, which a reset may overtake where the client has sent its HELLO already.
    assert ctl(f"tls://{daemon.line}", "stats", ca=pki.ca).returncode == 69


# ---- the name in a certificate ----

@pytest.fixture
def with_auth(make_tls, pki):
    """A function that starts a daemon with auth and makes an identity there."""
    def start(identity, *more):
        daemon = make_tls(pki.issue("auth"), "--auth", "on", "--tls-client-ca", pki.ca, *more)
        made = subprocess.run([PGLOCKCTL, "key", "create", "--name", identity, "--no-key", "--allow",
                               f"lock:{identity}/*", "--allow", f"read:{identity}/*", "--dsn", daemon.dsn],
                              text=True, capture_output=True, timeout=60, check=False)
        assert made.returncode == 0, made.stderr
        return daemon
    return start


@pytest.mark.parametrize("source,how", [
    ("cn", {"common": "tls-cn"}), ("dns", {"alternative": "DNS:tls-dns,DNS:other"}),
    ("email", {"alternative": "DNS:other,email:tls@email.example"}),
    ("uri", {"alternative": "URI:tls:uri"}),
])
def test_a_name_from_a_certificate(with_auth, pki, source, how):
    name = {"cn": "tls-cn", "dns": "tls-dns", "email": "tls@email.example", "uri": "tls:uri"}[source]
    daemon = with_auth(name, "--tls-name-from", source)
    context = context_for(pki.ca, pki.issue(f"client-{source}", **how))

    def known():
        with TlsLines(daemon.line, context) as client:
            return client.ask_ok("HELLO")["identity"] == name
    eventually(known)
    with TlsLines(daemon.line, context) as client:
        token = client.lock(f"{name}/x")
        assert client.ask_ok(f"INFO {name}/x")["holders"][0]["identity"] == name
        assert client.ask("LOCK elsewhere").status == "DENIED"
        client.ask_ok(f"UNLOCK {name}/x token={token}")


def test_a_certificate_whose_name_is_unknown_is_nobody(with_auth, pki):
    daemon = with_auth("tls-somebody")
    context = context_for(pki.ca, pki.issue("client-unknown", common="tls-nobody"))
    with TlsLines(daemon.line, context) as client:
        assert client.ask_ok("HELLO")["identity"] is None
        assert client.ask("LOCK tls-nobody/x").code == "auth_required"


def test_a_name_that_is_made_later_is_taken_on_the_open_connection(with_auth, pki):
    daemon = with_auth("tls-first", "--auth-timeout", "10m")
    context = context_for(pki.ca, pki.issue("client-later", common="tls-later"))
    with TlsLines(daemon.line, context) as client:
        assert client.ask_ok("HELLO")["identity"] is None
        subprocess.run([PGLOCKCTL, "key", "create", "--name", "tls-later", "--no-key", "--allow",
                        "lock:*", "--dsn", daemon.dsn], capture_output=True, timeout=60, check=True)
        eventually(lambda: client.ask_ok("HELLO")["identity"] == "tls-later")


def test_who_does_not_say_who_it_is_is_closed(with_auth, pki):
    daemon = with_auth("tls-late", "--auth-timeout", "300ms")

    def what_is_said():
        """Nothing to who is still in the handshake then, as it may be on a busy machine."""
        with contextlib.suppress(OSError), TlsLines(daemon.line, context_for(pki.ca)) as nobody:
            return nobody.rest()
        return None
    (bye,) = eventually(what_is_said)
    assert bye.code == "auth_timeout"


# ---- reload ----

def copy_pair(source, target):
    for one, other in zip(source, target):
        new = other.with_suffix(".new")
        new.write_bytes(one.read_bytes())
        new.chmod(0o600)
        new.replace(other)


def test_a_new_certificate_is_taken_on_sighup(make_tls, pki, tls):
    live = pki.directory / "live.crt", pki.directory / "live.key"
    copy_pair(pki.issue("first"), live)
    daemon = make_tls(live)
    old = tls(to=daemon)
    assert old.certificate() == "first"
    copy_pair(pki.issue("second"), live)
    daemon.signal(signal.SIGHUP)

    def new_certificate():
        with TlsLines(daemon.line, context_for(pki.ca)) as client:
            return client.certificate() == "second"
    eventually(new_certificate)
    old.ask_ok("PING")
    with socket.create_connection(("127.0.0.1", int(daemon.http.rsplit(":", 1)[1]))) as raw, \
            context_for(pki.ca).wrap_socket(raw, server_hostname="localhost") as over_http:
        assert over_http.getpeercert()["subject"][0][0][1] == "second"


def test_a_bad_certificate_on_sighup_leaves_the_old_one(make_tls, pki, tls):
    live = pki.directory / "kept.crt", pki.directory / "kept.key"
    copy_pair(pki.issue("good"), live)
    daemon = make_tls(live)
    copy_pair((pki.issue("one")[0], pki.issue("other")[1]), live)
    daemon.signal(signal.SIGHUP)
    eventually(lambda: "certificate_reload_failed" in daemon.log())
    assert tls(to=daemon).certificate() == "good"


# ---- configuration ----

def refusal(*arguments):
    done = subprocess.run([PGLOCKD, "--dsn", "host=/nowhere", *map(str, arguments)], text=True,
                          capture_output=True, timeout=60, check=False)
    assert done.returncode == 78, done
    assert "PRIVATE KEY" not in done.stderr
    return done.stderr


def test_tls_without_a_certificate_is_refused_at_start(pki):
    cert, key = pki.issue("config")
    assert "tls_cert" in refusal("--listen", "tls://127.0.0.1:0")
    assert "tls_key" in refusal("--listen", "tls://127.0.0.1:0", "--tls-cert", cert)
    assert "tls_client_ca" in refusal("--tls-client-cert", "required")
    assert "nowhere" in refusal(*arguments_of((cert, "/nowhere/key")))
    assert "no certificate" in refusal(*arguments_of((cert, key), "--tls-client-ca", "/dev/null"))


def test_a_key_that_others_can_read_is_refused(pki):
    cert, key = pki.issue("open")
    key.chmod(0o644)
    assert "open to every user" in refusal(*arguments_of((cert, key)))


def test_a_key_of_another_certificate_is_refused(pki):
    assert "cannot use tls_cert" in refusal(*arguments_of((pki.issue("a")[0], pki.issue("b")[1])))
