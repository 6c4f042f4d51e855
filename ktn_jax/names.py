"""Parameters by name, as a config's regular expressions choose them."""

import re
from collections.abc import Sequence

from ktn_jax.errors import UserError


def compile_patterns(
    texts: Sequence[str], names: Sequence[str], *, field: str, example: str
) -> list[re.Pattern[str]]:
    """The expressions, each of which must match a whole name.

    names: as in head/part_kernel.   field: of the config, and example: what it might be;
    for errors.   UserError for an expression that is none, or that matches nothing.
    """
    patterns = []
    for text in texts:
        try:
            pattern = re.compile(text)
        except re.error as error:
            raise UserError(
                f"{field}: {text!r} is no regular expression ({error}); "
                f"give such as --config.{field}=\"('{example}',)\""
            ) from error
        if not any(map(pattern.fullmatch, names)):
            raise UserError(
                f"{field}: {text!r} matches no name; names look like {names[0]!r}, "
                "and all of one must match"
            )
        patterns.append(pattern)
    return patterns
