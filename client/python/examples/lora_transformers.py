"""A text classifier of Hugging Face's with LoRA: the adapter travels, and the model below it never does.

    pip install './client/python[transformers,peft]' accelerate   # in the repository, once; `fedmerge` must be on the PATH
    cd client/python/examples
    python lora_transformers.py --init base.safetensors
    fedmerge server init hub --name moods --base base.safetensors
    fedmerge server run --dir hub &
    export FEDMERGE_TOKEN=$(fedmerge server token create --dir hub --uses 2)
    fedmerge client enrol --server https://localhost:7600 --dir ward-1 --name ward-1
    fedmerge client enrol --server https://localhost:7600 --dir ward-2 --name ward-2
    python lora_transformers.py --seed 1 --dir ward-1 &
    python lora_transformers.py --seed 2 --dir ward-2

The model is small, random and the same everywhere, so that nothing is downloaded; with `--model distilbert-base-uncased` it is one of the
hub's. The data are sentences of a made-up language, in which some words are kind and some are not.
"""

import argparse

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, DistilBertConfig, Trainer, TrainingArguments

import fedmerge
import fedmerge.peft
from fedmerge.transformers import FederationCallback

WORDS, LENGTH = 200, 12


def adapted(name):
    """A classifier with an adapter on it."""
    torch.manual_seed(0)
    if name:
        model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
    else:
        small = DistilBertConfig(vocab_size=WORDS, dim=64, hidden_dim=128, n_layers=2, n_heads=4, num_labels=2)
        model = AutoModelForSequenceClassification.from_config(small)
    heads = ["pre_classifier", "classifier"]
    return get_peft_model(model, LoraConfig(r=4, lora_alpha=16, target_modules=["q_lin", "v_lin"], modules_to_save=heads))


def sentences(seed, count=256):
    """A sentence is kind when it has more kind words, those of even numbers, than others."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(2, WORDS, (count, LENGTH), generator=generator)
    kind = (words % 2 == 0).sum(1) > LENGTH // 2
    return [{"input_ids": row, "labels": int(label)} for row, label in zip(words, kind, strict=True)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--init", metavar="PATH", help="write a fresh adapter there, and stop")
    parser.add_argument("--dir", help="the directory of an enrolled client; left out in a command of `fedmerge client run`")
    parser.add_argument("--model", help="a model of the hub instead of the small one; needs the network")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    model = adapted(options.model)
    if options.init:
        fedmerge.peft.save(model, options.init)
        return

    arguments = TrainingArguments(
        output_dir="training",
        num_train_epochs=1,
        learning_rate=3e-3,
        per_device_train_batch_size=32,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    with fedmerge.connect(options.dir) as federation:
        for task in federation:
            callbacks = [FederationCallback(task)]
            Trainer(model=model, args=arguments, train_dataset=sentences(options.seed), callbacks=callbacks).train()


if __name__ == "__main__":
    main()
