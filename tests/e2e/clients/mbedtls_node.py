"""An MQTT-SN node whose DTLS is Mbed TLS: connects, publishes once with QoS 1, and says what came of it.

Arguments: PORT key IDENTITY KEY, or PORT certificate CA CERT KEY; the certificates in PEM.
"""

import socket
import sys
import time
from pathlib import Path

from mbedtls import pk, tls, x509

PATIENCE = 10


def configuration(how, *given):
    if how == "key":
        identity, key = given
        return tls.DTLSConfiguration(pre_shared_key=(identity, bytes.fromhex(key)), validate_certificates=False)
    ca, cert, key = (Path(file).read_text() for file in given)
    store = tls.TrustStore()
    store.add(x509.CRT.from_PEM(ca))
    # It shows none that does not come with its issuer.
    chain = ((x509.CRT.from_PEM(cert), x509.CRT.from_PEM(ca)), pk.ECC.from_PEM(key))
    return tls.DTLSConfiguration(trust_store=store, certificate_chain=chain, validate_certificates=True)


def patiently(step, *arguments):
    """Mbed TLS asks to be called again while it waits for the other side."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return step(*arguments)
        except (tls.WantReadError, tls.WantWriteError):
            if time.monotonic() > until:
                raise


def main(port, *how):
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    plain.settimeout(1)
    node = tls.ClientContext(configuration(*how)).wrap_socket(plain, server_hostname="localhost")
    node.connect(("127.0.0.1", int(port)))
    patiently(node.do_handshake)
    print(node.negotiated_tls_version().name, node.cipher())

    def ask(request):
        patiently(node.send, bytes([len(request) + 1]) + request)
        return patiently(node.recv, 512)

    topic = b"field/mbed"
    # A client id belongs to the name that was proved first.
    connected = ask(b"\x04\x04\x01\x00\x3c" + how[0].encode())
    assert connected == b"\x03\x05\x00", connected
    registered = ask(b"\x0a\x00\x00\x00\x01" + topic)
    assert registered[1] == 0x0B and registered[-1] == 0, registered
    published = ask(b"\x0c\x20" + registered[2:4] + b"\x00\x02hello")
    assert published[1] == 0x0D and published[-1] == 0, published
    print("acknowledged")
    node.close()


main(*sys.argv[1:])
