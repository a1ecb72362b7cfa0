"""SHA-256 by Python's own lean module: loading OpenSSL, as hashlib does, takes longer than all that an upgrade hashes.

The standard library's `random` does the same, for the same reason.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha2 import sha256  # Python 3.12 and later
    except ImportError:
        try:
            from _sha256 import sha256
        except ImportError:  # a Python that was built without them
            from hashlib import sha256

__all__ = ["sha256"]
