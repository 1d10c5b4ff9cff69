#!/usr/bin/env python3
"""transformers.Trainer with a tiny BERT on random data.

client_trainer.py DIR STEPS [resume]     checkpoints every 4 steps into DIR, two are kept
"""

import sys

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments


class Samples(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, i):
        return {"input_ids": (torch.arange(16) * (i + 1)) % 100, "labels": torch.tensor(i % 2)}


def main():
    folder, steps, *resume = sys.argv[1:]
    torch.manual_seed(0)
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=100)
    arguments = TrainingArguments(output_dir=folder, max_steps=int(steps), save_steps=4, save_total_limit=2, logging_steps=4,
                                  per_device_train_batch_size=4, report_to=[], disable_tqdm=True, use_cpu=True)
    trainer = Trainer(model=BertForSequenceClassification(config), args=arguments, train_dataset=Samples())
    trainer.train(resume_from_checkpoint=bool(resume))
    print(f"trained to step {trainer.state.global_step}")


if __name__ == "__main__":
    main()
