"""What must be set before PyTorch is imported, and the checker behind `--jaxtyping-packages`.

The checker is beartype, with int accepted for float as PEP 484 has it.
"""

import os

from beartype import BeartypeConf, beartype

os.environ["OMP_WAIT_POLICY"] = "passive"  # a thread without work leaves its core to other processes
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
