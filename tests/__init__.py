"""The checker behind `--jaxtyping-packages`: beartype, with int accepted for float as PEP 484 has it."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
