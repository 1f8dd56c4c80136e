"""ssl-jets: pretrain set transformers on particle jets, write their representation z to disk, finetune, evaluate.

Each command is a function, and there are three more for a notebook:

    ssl_jets.pretraining    pretrain, resolve_pretrain    a run folder from jets
    ssl_jets.embedding.embed       embed, embed_jets             a z file from files; z of jets in memory
    ssl_jets.finetuning    finetune, resolve_finetune    a run folder from a model and labelled jets
    ssl_jets.evaluation    evaluate_model, ...           numbers and figures of a model, several, or a z file
    ssl_jets.generation    generate                      new jets of a model
    ssl_jets.data.read   read_jets                     jets of files, in memory
    ssl_jets.model_file  load_model                    the encoder and heads of a run
    ssl_jets.zfile       read_z                        the contents of a z file

They raise `ssl_jets.errors.SslJetsError` for what a user can mend.
"""

__version__ = "0.1.0"
