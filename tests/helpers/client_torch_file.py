#!/usr/bin/env python3
"""torch.save and torch.load of one file: client_torch_file.py save|load FILE"""

import sys

import torch

torch.manual_seed(2)
state = {"weight": torch.randn(500, 500), "ids": torch.arange(1000), "step": 7}
word, path = sys.argv[1:]
if word == "save":
    torch.save(state, path)
else:
    for mapped in (False, True):
        got = torch.load(path, mmap=mapped, weights_only=True)
        assert got["step"] == 7
        assert all(torch.equal(got[name], state[name]) for name in ("weight", "ids")), mapped
