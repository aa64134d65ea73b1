"""PyTorch and `transformers` as the comparisons use them: import them from here.

Debian 12's PyTorch 1.13 cannot import its own torch.distributed.fsdp under Python 3.11, which `generate` asks for; a
stand-in with the one class that is looked at serves. One thread, so that results do not depend on the machine's cores.
"""
import sys
import types
import warnings

import torch

_fsdp = types.ModuleType("torch.distributed.fsdp")
_fsdp.FullyShardedDataParallel = type("FullyShardedDataParallel", (), {})
sys.modules.setdefault("torch.distributed.fsdp", _fsdp)
torch.distributed.fsdp = sys.modules["torch.distributed.fsdp"]
warnings.filterwarnings("ignore", category=UserWarning)

import transformers  # noqa: E402

transformers.logging.set_verbosity_error()
