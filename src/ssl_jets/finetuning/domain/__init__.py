"""Domain adaptation: unlabelled jets of the domain where the model will be used, beside the labelled source."""
