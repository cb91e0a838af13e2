"""The feature bank: every video is encoded once and then matched as often as needed."""

from fsar.bank.fill import check_features, enhance_bank, fill_bank, load_clip
from fsar.bank.store import Bank, BankStore

__all__ = ["Bank", "BankStore", "check_features", "enhance_bank", "fill_bank", "load_clip"]
