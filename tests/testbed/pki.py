"""Certificates and kubeconfigs of the cluster, created at each `up`.

Every client has its own identity, as kubeadm gives them: what a test finds out about permissions
must hold on a real cluster, where nothing but the administrator is in system:masters.
"""

import base64
import datetime as dt
import ipaddress
import json
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from testbed import layout

LIFETIME = dt.timedelta(days=365)


class Authority:
    """The cluster's certificate authority, and what it signs, as files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("testbed-ca")
        certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        file: str,
        common_name: str,
        *,
        organization: str | None = None,
        names: tuple[str, ...] = (),
    ) -> None:
        """Write `<file>.crt` and `<file>.key`, valid for both ends of a connection.

        Names: DNS or addresses.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = _builder(
            _name(common_name, organization), self._name, key.public_key()
        ).add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_subject(name) for name in names]), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        (self._folder / f"{file}.crt").write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
        )
        (self._folder / f"{file}.key").write_bytes(_private_pem(key))


def create() -> None:
    """Create all certificates, token keys and kubeconfigs of the cluster's programs."""
    folder = layout.pki_dir()
    authority = Authority(folder)
    names = (
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    )
    addresses = ("127.0.0.1", layout.SERVICE_IP, layout.API_SERVER_IP)
    authority.issue("apiserver", "kube-apiserver", names=names + addresses)
    authority.issue(
        "apiserver-kubelet", "kube-apiserver-kubelet-client", organization="system:masters"
    )
    clients = {
        "admin": ("admin", "system:masters"),
        "controller-manager": ("system:kube-controller-manager", None),
        "scheduler": ("system:kube-scheduler", None),
        "proxy": ("system:kube-proxy", None),
    }
    for file, (common_name, organization) in clients.items():
        authority.issue(file, common_name, organization=organization)
        write_kubeconfig(file)
    for node in layout.NODES:
        authority.issue(
            node.name,
            f"system:node:{node.name}",
            organization="system:nodes",
            names=(node.name, node.ip, "127.0.0.1"),
        )
        write_kubeconfig(node.name)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "service-accounts.key").write_bytes(_private_pem(key))
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "service-accounts.pub").write_bytes(public)


def write_kubeconfig(user: str) -> None:
    """A kubeconfig with everything inside, so that it may be copied to another folder."""
    folder = layout.pki_dir()

    def inline(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    server = f"https://127.0.0.1:{layout.API_PORT}"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "testbed",
                "cluster": {"server": server, "certificate-authority-data": inline("ca.crt")},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": inline(f"{user}.crt"),
                    "client-key-data": inline(f"{user}.key"),
                },
            }
        ],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
        "current-context": "testbed",
    }
    path = layout.kubeconfig(user)
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1))  # JSON is YAML


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    # An hour back: a machine whose clock was just set right must not find the certificate not yet
    # valid.
    start = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
    )


def _name(common_name: str, organization: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _subject(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
