"""Certificates for tests, made by openssl, and clients that speak TLS."""

import contextlib
import socket
import ssl
import subprocess

from lines import SECONDS, Lines

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
LOCAL = "DNS:localhost,IP:127.0.0.1"


class Pki:
    """A CA in a directory, and what it has signed."""

    def __init__(self, openssl, directory, name="ca"):
        self.openssl, self.directory, self.name = openssl, directory, name
        self.ca = directory / f"{name}.crt"
        self.run("req", "-x509", *EC, "-days", "30", "-keyout", f"{name}.key", "-out", self.ca,
                 "-subj", f"/CN={name}")

    def run(self, *arguments, **options):
        subprocess.run([self.openssl, *map(str, arguments)], cwd=self.directory, check=True,
                       capture_output=True, timeout=60, **options)

    def issue(self, name, alternative=LOCAL, days=30, common=None, usage=None):
        """Signs a certificate; returns the paths of it and its key."""
        extensions = [f"subjectAltName={alternative}"] + ([f"extendedKeyUsage={usage}"] if usage else [])
        self.run("req", *EC, "-keyout", f"{name}.key", "-out", f"{name}.csr",
                 "-subj", f"/CN={common or name}")
        self.run("x509", "-req", "-in", f"{name}.csr", "-CA", self.ca, "-CAkey", f"{self.name}.key",
                 "-CAcreateserial", "-days", days, "-out", f"{name}.crt", "-extfile", "/dev/stdin",
                 input="\n".join(extensions).encode())
        (self.directory / f"{name}.key").chmod(0o600)
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"


def context_for(ca, pair=None, version=None):
    context = ssl.create_default_context(cafile=str(ca))
    if pair:
        context.load_cert_chain(*map(str, pair))
    if version:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # so that the server is asked, not this library
        context.minimum_version = context.maximum_version = version
    return context


class TlsLines(Lines):
    """A connection of the line protocol in TLS."""

    def __init__(self, address, context, server_name="localhost", receive_buffer=None):
        host, port = address.rsplit(":", 1)
        raw = socket.socket()
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.settimeout(SECONDS)
        raw.connect((host, int(port)))
        self.received = b""
        try:
            self.socket = context.wrap_socket(raw, server_hostname=server_name)
        except BaseException:
            raw.close()
            raise

    def certificate(self):
        return self.socket.getpeercert()["subject"][0][0][1]


def last_words(address, context, data):
    """Sends data and the end of our direction, and returns all that comes then.

    Over buffers in memory, since a socket's unwrap() wants the other end's end at once.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), SECONDS) as raw:
        def step(act):
            while True:
                try:
                    return act()
                except ssl.SSLWantReadError:
                    raw.sendall(outgoing.read())
                    incoming.write(raw.recv(1 << 16))
        step(tls.do_handshake)
        tls.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        received = b""
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while piece := step(lambda: tls.read(1 << 16)):
                received += piece
    return received.decode().splitlines()
