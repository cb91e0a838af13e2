"""A parser that refuses in one line, as all of `fsar` does: argparse would print how the verb is used."""

import re
from argparse import ArgumentParser
from typing import NoReturn

EXPECTED = {"float": "a number", "int": "a whole number"}


class Parser(ArgumentParser):
    """Raises what argparse would print before it leaves the process; its verbs are parsed in the same way."""

    def error(self, message: str) -> NoReturn:
        """Refuse the words of a user.

        Raises:
            ValueError: always; it names the verb, the argument, and what was expected.

        Example:
            >>> parser = Parser(prog="fsar count")
            >>> _ = parser.add_argument("--begin", type=float)
            >>> parser.parse_args(["--begin", "late"])
            Traceback (most recent call last):
                ...
            ValueError: fsar count: argument --begin: got 'late', expected a number; see `fsar count --help`
        """
        plain = re.sub(r"invalid (float|int) value: (.*)", lambda m: f"got {m[2]}, expected {EXPECTED[m[1]]}", message)
        plain = re.sub(r"invalid choice: (.*?) \(choose from (.*)\)", r"got \1, expected one of: \2", plain)
        raise ValueError(f"{self.prog}: {plain}; see `{self.prog} --help`")
