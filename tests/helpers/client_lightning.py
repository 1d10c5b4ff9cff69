#!/usr/bin/env python3
"""Lightning with a tiny model.

client_lightning.py fit DIR EPOCHS [resume]     ModelCheckpoint(save_top_k=2, save_last="link")
client_lightning.py fabric PATH PAUSE           what Fabric's sharded strategies write, in their order: DCP's files, then, PAUSE seconds
                                                later, meta.pt
client_lightning.py fabric-load PATH            that is there, and as it was saved
"""

import pathlib
import sys
import time

import torch
import torch.distributed.checkpoint as dcp


def fit(folder, epochs, resume):
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.demos.boring_classes import BoringModel

    kept = ModelCheckpoint(dirpath=folder, filename="{epoch}-{step}", monitor="epoch", mode="max", save_top_k=2, save_last="link")
    trainer = lightning.Trainer(max_epochs=epochs, limit_train_batches=4, limit_val_batches=1, callbacks=[kept], logger=False,
                                accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(BoringModel(), ckpt_path=str(pathlib.Path(folder) / "last.ckpt") if resume else None)
    print(f"epoch {trainer.current_epoch}, step {trainer.global_step}, last {kept.last_model_path}")


def state():
    torch.manual_seed(3)
    return {"weight": torch.randn(300, 70)}


def fabric(path, pause):
    """lightning/fabric/strategies/fsdp.py, save_checkpoint: _distributed_checkpoint_save, then torch.save of the rest."""
    dcp.save(state(), checkpoint_id=path)
    time.sleep(pause)
    torch.save({"step": 5}, pathlib.Path(path) / "meta.pt")
    print("saved")


def fabric_load(path):
    got = {name: torch.zeros_like(tensor) for name, tensor in state().items()}
    dcp.load(got, checkpoint_id=path)
    assert torch.equal(got["weight"], state()["weight"])
    assert torch.load(pathlib.Path(path) / "meta.pt") == {"step": 5}
    print("loaded")


def main():
    word, path, *rest = sys.argv[1:]
    if word == "fit":
        fit(path, int(rest[0]), "resume" in rest)
    elif word == "fabric":
        fabric(path, float(rest[0]))
    else:
        fabric_load(path)


if __name__ == "__main__":
    main()
