"""Alternative text and caption of each figure, by its name."""

from __future__ import annotations

from ssl_jets.report.figures.style import MOST_BANDS

_ALT = {
    "roc": "ROC curves",
    "confusion": "Confusion matrix",
    "reliability": "Reliability diagram",
    "probes": "Probes and baselines",
    "z_map": "Map of z",
    "sic": "Significance improvement",
    "regression": "Regression",
    "physics": "What z knows of a jet",
    "robustness": "Accuracy on changed jets",
    "compared_roc": "ROC curves of the models",
    "compared_probes": "Accuracy and AUC of the models",
    "compared_training": "Training curves of the models",
    "compared_confusion": "Confusion matrices of the models",
    "compared_collapse": "Measures of collapse of the models",
    "cka": "Likeness of z of the models",
    "label_curves": "Accuracy against the number of labels",
    "cwola": "Significance improvement against the number of signal jets",
    "distance": "Anomaly scores by distance",
    "training": "Training curves",
    "spectra": "Spectra of the training jets",
    "collapse": "Measures of collapse",
    "generated_jets": "Observables of generated and real jets",
    "generated_particles": "Particles of generated and real jets",
    "generated_kinds": "Spectra of each kind of particle",
    "domain_accuracy": "Accuracy on simulation and data",
    "domain_gap": "Gap between simulation and data in z",
}

_CAPTION = {
    "roc": "How many {background} jets there are for each one that is kept, against the share of signal that is"
    " kept; higher is better. Dots mark the efficiencies of the table; a triangle is a lower limit. {intervals}",
    "confusion": "Each row is a true class and adds up to 100 %. A good classifier is dark on the diagonal only.",
    "reliability": "On the dotted diagonal a probability means what it says; below it the model is too sure of "
    "itself. Bars are binomial errors; bins of fewer than {jets} jets are left out.",
    "sic": "By this factor a cut makes the significance S/√B of a signal grow, in a background so large that "
    "only S and B count. Shown where at least 25 {background} jets of equal weight pass, as in the table; the "
    "dotted line is no cut at all. {intervals}",
    "regression": "Left: regressed against true, on the dotted line they are equal; jets beyond the axes are in the "
    "outermost cells. Right: bias (median of "
    "regressed - true) and resolution (half of the central 68 %) in bins of equal numbers of jets, with 68 % "
    "intervals. The dotted line is the resolution of a guess that ignores the jet.",
    "physics": "How much of each quantity can be read from z by a linear reader (open) and by trees (full). "
    "Blue is the trained model, grey an encoder of random weights. Red: trees that read the other quantities "
    "instead, without kin (masses, counts, or ratios of N-subjettiness). Bars are 95 % intervals; what is below"
    " -0.2 is drawn there.",
    "robustness": "Accuracy of {reader} where the jets it is tested on are changed, {jets:,} of them, and the "
    "reader is not. Columns that are removed are declared missing. Bands or bars are 68 % intervals and shared: along a"
    " curve, and between models, the jets are the same. The dotted line is a guess of the largest class.",
    "compared_roc": "Background rejection of each class, one line a model. Bands are 68 % intervals.",
    "compared_probes": "Each model in its colour; grey are the baselines. Thick bars are 68 %, thin bars 95 % "
    "intervals. The models share the test jets, so differences (table below) are known better than the bars "
    "suggest.",
    "compared_training": "Held-out loss and probe of each run. Losses of different methods are different quantities.",
    "compared_confusion": "Each row is a true class and adds up to 100 %. A good classifier is dark on the diagonal "
    "only.",
    "compared_collapse": "How much z differs between held-out jets, at each look. In a collapse all jets get the same "
    "z (variation near 0), or z becomes one number (participation ratio near 1). Red rings: looks that found one.",
    "cka": "Linear CKA of z on the same jets: 1 where one is a rotation of the other, 0 where they share nothing.",
    "label_curves": "Accuracy on {jets:,} jets {seen}, against the labelled jets used for "
    "finetuning. Lines are means over {seeds} seeds, which draw other subsets, orders and heads; bands or bars are the "
    "standard deviation over seeds. All networks take {steps:,} steps of {batch} jets at every point. Dotted: a guess, "
    "of the largest class or at random.",
    "cwola": "Classification without labels (CWoLa): a reader learns to tell a mixture of {background} with a "
    "few signal jets from {background} alone, without being told which are signal. Points are means over "
    "{seeds} draws, bands or bars the standard deviation; the dotted line is no gain. Right of the dashed line S/√B in "
    "the mixture exceeds 1.",
    "distance": "Area under the ROC curve of {background} against each class, where the score is the distance "
    "from {background} jets and nothing is known of the signal. 0.5 is chance (dotted). Bars are 68 % "
    "intervals.",
    "probes": "Blue reads the trained model. Grey are the baselines: an encoder of the same size with random "
    "weights, and boosted trees on jet columns. Pretraining helped if blue lies clearly right of the same "
    "reader in grey. The dotted line is a guess: of the largest class, or at random. Thick bars are 68 %, "
    "thin bars 95 % intervals.",
    "z_map": "{jets:,} jets along the two directions in which z varies most{classes}.",
    "spectra": "Density of the training jets of each class before and after data.flatten. Effective sample sizes: "
    "{effective}.",
    "training": "Training and held-out loss should fall together; a held-out loss that rises again is "
    "overfitting. Dark lines are running means.",
    "collapse": "How much z differs between held-out jets. In a collapse all jets get the same z (variation "
    "near 0), z becomes one number (participation ratio near 1) or noise (alignment near 2), or the loss does "
    "not rise when jets swap their z. A dip in the first hundreds of steps is usual. Red: looks that found a "
    "collapse.{verdicts}",
    "generated_jets": "Points are generated jets, the grey area real ones; below, their ratio, with the "
    "statistical error of the real jets as a band and triangles for what lies beyond the axis. The last panel "
    "is the output of the trees on jets they were not fitted on: the more the two overlap, the less can they be"
    " told apart. Axes cover all but a thousandth of the real jets on each side.",
    "generated_particles": "The same for all particles of the jets. Errors take particles for independent, "
    "which those of one jet are not.",
    "generated_kinds": "Transverse momentum of the particles of each kind.",
    "domain_accuracy": "Accuracy on held-out jets of the simulation (blue) and on labelled jets of the data, which no "
    "training has seen (red). The shorter the line between them, the less is lost. Errors are the spread over seeds.",
    "domain_gap": "How well a linear classifier tells simulation from data by z: before finetuning (open) and after it "
    "(blue). The tick is the floor.",
}


def intervals(lines: int) -> str:
    """Return the sentence on the 68 % intervals of a figure with this number of curves."""
    if lines <= MOST_BANDS:
        return "Bands are 68 % intervals."
    return "The 68 % intervals of the curves are in the CSV: so many bands would hide each other."


def caption(name: str, **values: object) -> tuple[str, str]:
    """Return alternative text and caption of a figure."""
    return _ALT[name], _CAPTION[name].format(**values)
