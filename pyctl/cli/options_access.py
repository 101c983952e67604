"""Option rows that every command has which speaks to a registry: logins, certificates, attempts.

Weight: the table only.  `run` and `inspect`, which start often, have rows of their own and do without this module.
"""

from __future__ import annotations

from pyctl.cli.table import BOOL, STRING, UINT, Option, opt


def authfile(help_: str) -> Option:
    """--authfile, which says what of a file."""
    return opt("authfile", "", STRING, help_, metavar="FILE", complete="file")


AUTHFILE = authfile("File with logins (default: REGISTRY_AUTH_FILE, or the usual places)")
CREDS = opt(
    "creds",
    "",
    STRING,
    "Log in with these (seen by others in the process list: prefer --authfile)",
    metavar="USER[:PASSWORD]",
)
CERT_DIR = opt("cert-dir", "", STRING, "Directory of ca.crt, client.cert, client.key", metavar="DIR", complete="dir")
TLS_VERIFY = opt("tls-verify", "", BOOL, "Insist on https and a valid certificate", default=True)
ACCESS = (AUTHFILE, CREDS, CERT_DIR, TLS_VERIFY)

_ATTEMPTS = "So many more attempts when the network fails"
RETRY_DELAY = opt("retry-delay", "", STRING, "Time between attempts (default: grows from one second)", metavar="TIME")
RETRY = (opt("retry", "", UINT, _ATTEMPTS, default=3, metavar="N"), RETRY_DELAY)
# skopeo's name of it.
RETRY_TIMES = opt("retry-times", "", UINT, _ATTEMPTS, default=3, metavar="N")

# Which image of an index is meant, in skopeo's words.
PLATFORM = (
    opt("platform", "", STRING, "The image of an index for another system", metavar="OS/ARCH[/VARIANT]"),
    opt("override-arch", "", STRING, "The same in parts: the architecture", metavar="ARCH", field="arch"),
    opt("override-os", "", STRING, "the operating system", metavar="OS", field="os"),
    opt("override-variant", "", STRING, "the architecture's variant", metavar="VARIANT", field="variant"),
)
