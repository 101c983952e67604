"""`image trust show`, `image trust set`, `image sign`.  Weight: `storage.trust`; urllib3 for sign."""

from __future__ import annotations

import os
import sys

from pyctl.cli import report
from pyctl.engine.engine import Engine
from rootless.errors import Error, UsageError, os_error_text
from rootless.fds import read_file
from storage import trust
from storage.policy import default_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed

_HEADINGS = {"Transport": "TRANSPORT", "Name": "NAME", "Type": "TYPE", "GPGId": "ID", "SignatureStore": "STORE"}
_TABLE = "table {{.Transport}}\t{{.Name}}\t{{.Type}}\t{{.GPGId}}\t{{.SignatureStore}}"


def show(parsed: Parsed) -> int:
    """Prints the policy in force; a REGISTRY is taken for Podman's sake, which shows everything too."""
    options = parsed.options
    path = options.policypath or default_path(os.environ)
    if options.raw:
        if options.json or options.noheading:
            raise UsageError("--raw goes alone")
        if not path:
            raise Error("there is no policy.json: every image is let in")
        try:
            sys.stdout.write(read_file(path).decode("utf-8", "replace"))
        except OSError as error:
            raise Error(os_error_text(error, path)) from error
        return 0
    rows = trust.show(path, os.environ)
    if options.json:
        report.print_json([_json(row) for row in rows], 2)
        return 0
    shown = [
        report.Row(Transport=r.transport, Name=r.name, Type=r.kind, GPGId=r.keys, SignatureStore=r.store) for r in rows
    ]
    return report.print_rows(shown, _TABLE.removeprefix("table ") if options.noheading else _TABLE, _HEADINGS)


def _json(row: trust.TrustRow) -> dict[str, str]:
    whole = {
        "transport": row.transport,
        "name": "* (default)" if row.name == "default" else row.name,
        "repo_name": row.name,
        "sigstore": row.store,
        "type": row.kind,
        "gpg_id": row.keys,
    }
    return {key: value for key, value in whole.items() if value}


def set_(parsed: Parsed) -> int:
    """Writes the user's policy.json."""
    options = parsed.options
    path = options.policypath or trust.user_path(os.environ)
    trust.change(path, parsed.args[0], options.type, options.pubkeysfile, os.environ)
    return 0


def sign(parsed: Parsed) -> int:
    """Signs images as a registry has them."""
    from storage.copy import instance
    from storage.copy_sources import RegistrySource
    from storage.manifest import Index
    from storage.pull import PullOptions
    from storage.reference import parse

    options = parsed.options
    if not options.sign_by:
        raise UsageError("--sign-by KEY is missing")
    access = PullOptions(
        authfile=options.authfile,
        cert_dir=options.cert_dir,
        tls_verify=options.tls_verify if options.given("tls_verify") else None,
    )
    conf = Engine(parsed.globals).registries
    for name in parsed.args:
        if ":" in name.partition("/")[0] and not name.startswith("docker://") and name.partition(":")[0].isalpha():
            _refuse_transport(name)
        reference = parse(name.removeprefix("docker://")).with_default_tag()
        with RegistrySource(reference, access, os.environ, conf) as source:
            top = source.document()
            found = [top]
            if options.all and isinstance(top, Index):
                found += [instance(source, entry) for entry in top.manifests]
        for document in found:
            trust.sign(reference, document.digest, options.sign_by, os.environ, options.directory)
    return 0


def _refuse_transport(name: str) -> None:
    from storage.copy_sources import KINDS

    if name.partition(":")[0] in KINDS:
        raise UsageError(f"{name}: images are signed in a registry", hint="docker://NAME, after a push")
