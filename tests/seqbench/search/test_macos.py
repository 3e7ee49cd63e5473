"""What a sweep asks of the system, where that is macOS."""

import os

import pytest
import torch

from seqbench.search import engines


@pytest.mark.faults("C10")
def test_the_group_size_follows_from_all_memory_where_the_free_is_not_told(monkeypatch):
    known = {name: number for name, number in os.sysconf_names.items() if name != "SC_AVPHYS_PAGES"}
    sysconf = os.sysconf
    monkeypatch.setattr(os, "sysconf_names", known)
    monkeypatch.setattr(os, "sysconf", lambda name: sysconf(known[name]))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert engines._memory() == sysconf("SC_PHYS_PAGES") * sysconf("SC_PAGE_SIZE")
