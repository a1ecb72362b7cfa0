"""Text that looks like a secret, which must not get into a record."""

import re

_SECRET = re.compile(r"""(?xi)
    # tokens with the prefix of a service
    \b hf_[a-z0-9]{16,}
    | \b (gh[pousr]_ | github_pat_ | glpat- | npm_ | pypi- | sk- | [rs]k_(live|test)_ | xox[abeprs]- | xapp- | nvapi- | gsk_
        | ya29\. | A[KS]IA | AIza) [\w.-]{16,}
    | \b dapi[0-9a-f]{32} | \b SG\.[\w-]{16,}\.[\w-]{16,} | \b eyJ[\w-]{10,}\.[\w-]{10,} | \b bearer\ [\w.~+/-]{16,}
    | -----BEGIN\ [A-Z\ ]*PRIVATE\ KEY
    # in a URL: a password, a webhook, a signature
    | ://[^/\s:@"']*:[^/\s@"']+@ | hooks\.slack\.com/services/\w | discord(app)?\.com/api/webhooks/\d
    | \b (sig | signature | x-amz-signature | x-goog-signature | access_token | accountkey) = [\w%+/=-]{16,}
    # by the name of a variable: any text for a password, text that looks random for a key
    | (pass(wor|w)d | pwd | passphrase | secret) \w* ["']? (\s* : [^="']{1,40})? \s* [:=] \s* [rbuf]{0,2} ["']+ [^"'\s{}<$%][^"']{3,}
    | (key | token | auth | credential)s? \w* ["']? (\s* : [^="']{1,40})? \s* [:=] \s* [rbuf]{0,2} ["']+
        ( (?=[^"']*\d)(?=[^"']*[a-z])[\w+/=.-]{12,} | (?-i:(?=[^"']*[a-z])(?=[^"']*[A-Z]))[a-z+/=]{20,} ) ["']
    | (key | token | secret | password) = (?=[a-z0-9+/]*\d)(?=[a-z0-9+/]*[a-z])[a-z0-9+/]{20,}
    """)


def has_secret(line: str) -> bool:
    """Whether something in a line of code looks like a password, a key or a token."""
    return _SECRET.search(line) is not None
