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
    "physics": "Physics quantities predicted from z",
    "robustness": "Accuracy on changed jets",
    "compared_roc": "ROC curves of the models",
    "compared_probes": "Accuracy and AUC of the models",
    "compared_training": "Training curves of the models",
    "compared_confusion": "Confusion matrices of the models",
    "compared_collapse": "Collapse metrics of the models",
    "cka": "CKA of the models",
    "label_curves": "Accuracy against the number of labels",
    "cwola": "Significance improvement against the number of signal jets",
    "distance": "Anomaly scores by distance",
    "training": "Training curves",
    "spectra": "Spectra of the training jets",
    "collapse": "Collapse metrics",
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
    "reliability": "Calibrated probabilities lie on the dotted diagonal; below it the model is "
    "overconfident. Bars are binomial errors; bins of fewer than {jets} jets are left out.",
    "sic": "Factor by which a cut increases S/√B in a "
    "large background. Shown where at least 25 {background} jets of equal weight pass, as in the table; the "
    "dotted line is no cut at all. {intervals}",
    "regression": "Left: regressed against true, on the dotted line they are equal; jets beyond the axes are in the "
    "outermost cells. Right: bias (median of "
    "regressed - true) and resolution (half of the central 68 %) in bins of equal numbers of jets, with 68 % "
    "intervals. The dotted line is the resolution of a constant prediction.",
    "physics": "Share of the variance of each quantity that ridge regression (open) and boosted trees (full) on z "
    "explain. "
    "Blue is the trained model, grey an encoder of random weights. Red: trees that read the other quantities "
    "instead, without those of its own group (masses, counts, or ratios of N-subjettiness). Bars are 95 % intervals; "
    "values below -0.2 are drawn at -0.2.",
    "robustness": "Accuracy of {reader} on {jets:,} test jets that are changed as named; the reader is not "
    "fitted anew. Columns that are removed are declared missing. Bands or bars are 68 % intervals and shared: along a"
    " curve, and between models, the jets are the same. The dotted line is a guess of the largest class.",
    "compared_roc": "Background rejection of each class, one line a model. Bands are 68 % intervals.",
    "compared_probes": "Each model in its colour; grey and red are the baselines, red those on the particles. Thick "
    "bars are 68 %, thin bars 95 % intervals. The models share the test jets, so differences (table below) are known "
    "better than the bars suggest.",
    "compared_training": "Held-out loss and probe of each run. Losses of different methods are different quantities.",
    "compared_confusion": "Each row is a true class and adds up to 100 %. A good classifier is dark on the diagonal "
    "only.",
    "compared_collapse": "Variation of z over held-out jets at each validation. In a collapse z is constant (variation "
    "near 0) or one-dimensional (participation ratio near 1). Red rings: validations with a collapse.",
    "cka": "Linear CKA of z on the same jets: 1 where one is a rotation of the other, 0 where they share nothing.",
    "label_curves": "Accuracy on {jets:,} jets {seen}, against the labelled jets used for "
    "finetuning. Lines are means over {seeds} seeds, which draw other subsets, orders and heads; bands or bars are the "
    "standard deviation over seeds. Lines with bars stand slightly side by side. All networks take {steps:,} steps of "
    "{batch} jets at every point. Dotted: a guess, of the largest class or at random.",
    "cwola": "Classification without labels (CWoLa): a reader learns to separate a mixture of {background} and a "
    "few signal jets from {background} alone, without labels of the signal. Points are means over "
    "{seeds} draws, bands or bars the standard deviation, slightly side by side; the dotted line is no gain. Open "
    "markers: the same search without any signal jet, whose random score separates by chance; a point at its height "
    "has found nothing. Markers at the right: the same reader with the true labels of all jets to fit on, with 68 % "
    "intervals. Right of the dashed line S/√B in the mixture exceeds 1.",
    "distance": "Area under the ROC curve of {background} against each class, where the score is the distance "
    "from {background} jets without any signal jet. 0.5 is chance (dotted). Bars are 68 % "
    "intervals.",
    "probes": "Blue: readers of z. Grey: an encoder of the same size with random weights, and boosted trees on jet "
    "columns. Red: baselines on the particles, observables computed from them, "
    "and a Deep Sets network trained from scratch on the same labels. z is useful where blue lies right of red. "
    "The dotted line is a guess: of the largest class, or at random. Thick bars are 68 %, thin bars 95 % intervals.",
    "z_map": "{jets:,} jets along the two directions in which z varies most{classes}.",
    "spectra": "Density of the training jets of each class before and after data.flatten. Effective sample sizes: "
    "{effective}.",
    "training": "Training and held-out loss should fall together; a held-out loss that rises again is "
    "overfitting. Dark lines are running means.",
    "collapse": "Variation of z over held-out jets. In a collapse z is constant (variation near 0), one-dimensional "
    "(participation ratio near 1) or noise (alignment near 2), or the loss does not rise when jets swap their z. A dip "
    "in the first hundreds of steps is usual. Red: validations with a collapse.{verdicts}",
    "generated_jets": "Points are generated jets, the grey area real ones; below, their ratio, with the "
    "statistical error of the real jets as a band and triangles for what lies beyond the axis. The last panel "
    "is the output of the trees on jets they were not fitted on: the more the two overlap, the less can they be"
    " separated. Axes cover all but a thousandth of the real jets on each side.",
    "generated_particles": "The same for all particles of the jets. Errors include correlations between the "
    "particles of a jet.",
    "generated_kinds": "Transverse momentum of the particles of each kind.",
    "domain_accuracy": "Accuracy on held-out jets of the simulation (blue) and on labelled jets of the data, which no "
    "training has seen (red). The shorter the line between them, the less is lost. Errors are the spread over seeds.",
    "domain_gap": "Separation of simulation and data by a linear classifier of z, before (open) and after finetuning "
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
