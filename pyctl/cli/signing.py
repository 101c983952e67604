"""The keys that a command signs images with.  Weight: none until one is named; then `storage.signing`."""

from __future__ import annotations

import sys

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Options
    from storage.reference import Reference
    from storage.signing import Signer

_FIELDS = ("sign_by", "sign_by_sigstore", "sign_by_sigstore_private_key", "sign_passphrase_file")


def given(options: Options) -> bool:
    """Whether the command line asks for a signature."""
    return any(options.get(field) for field in _FIELDS)


def signers_of(options: Options) -> tuple[Signer, ...]:
    """The keys that the options name, unlocked.  Raises UsageError, Error: nothing was sent yet."""
    if not given(options):
        return ()
    from storage.signing import SigningOptions, open_signers

    wanted = SigningOptions(
        gpg_key=options.sign_by,
        parameters=options.sign_by_sigstore,
        private_key=options.sign_by_sigstore_private_key,
        passphrase_file=options.sign_passphrase_file,
    )
    return open_signers(wanted, _ask)


def identity_of(options: Options) -> Reference | None:
    """--sign-identity.  Raises UsageError."""
    from storage.reference import parse

    if not options.sign_identity:
        return None
    if not given(options):
        raise UsageError("--sign-identity goes with --sign-by, --sign-by-sigstore or --sign-by-sigstore-private-key")
    return parse(options.sign_identity)


def _ask(prompt: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError(
            f"{prompt.removesuffix(': ')} cannot be asked for: this is no terminal", hint="--sign-passphrase-file FILE"
        )
    from getpass import getpass

    return getpass(prompt)
