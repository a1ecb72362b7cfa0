"""SHA-256 by Python's own lean module: loading OpenSSL, as hashlib does, takes longer than all that an upgrade hashes.

The standard library's `random` does the same, for the same reason.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import sha256

__all__ = ["sha256"]
