"""What one should see in each figure: alternative text and caption, by the name of the figure."""

from __future__ import annotations

_ALT = {
    "roc": "ROC curves",
    "confusion": "Confusion matrix",
    "reliability": "Reliability diagram",
    "probes": "Probes and baselines",
    "z_map": "Map of z",
    "training": "Training curves",
    "collapse": "Measures of collapse",
    "generated_jets": "Observables of generated and real jets",
    "generated_particles": "Particles of generated and real jets",
    "generated_kinds": "Spectra of each kind of particle",
    "domain_accuracy": "Accuracy on simulation and data",
    "domain_gap": "Gap between simulation and data in z",
}

_CAPTION = {
    "roc": "How many {background} jets there are for each one that is kept, against the share of signal that is kept; "
    "higher is better. Bands are 68 % intervals. Dots mark the efficiencies of the table; a triangle is a lower limit.",
    "confusion": "Each row is a true class and adds up to 100 %. A good classifier is dark on the diagonal only.",
    "reliability": "On the dotted diagonal a probability means what it says; below it the model is too sure of itself. "
    "Bars are binomial errors.",
    "probes": "Blue reads the trained model. Grey are the baselines: an encoder of the same size with random weights, "
    "and boosted trees on jet columns. Pretraining helped if blue lies clearly right of the same reader in grey. "
    "Thick bars are 68 %, thin bars 95 % intervals.",
    "z_map": "{jets:,} jets along the two directions in which z varies most{classes}.",
    "training": "Training and held-out loss should fall together; a held-out loss that rises again is overfitting. "
    "Dark lines are running means.",
    "collapse": "How much z differs between held-out jets. In a collapse all jets get the same z (variation near 0), "
    "z becomes one number (participation ratio near 1) or noise (alignment near 2), or the loss does not rise when "
    "jets swap their z. A dip in the first hundreds of steps is usual. Red: looks that found a collapse; dashed: "
    "rolled back to here.{verdicts}",
    "generated_jets": "Points are generated jets, the grey area real ones; below, their ratio, with the statistical "
    "error of the real jets as a band and triangles for what lies beyond the axis. The last panel is the output of the "
    "trees on jets they were not fitted on: the more the two overlap, the less can they be told apart. Axes cover all "
    "but a thousandth of the real jets on each side.",
    "generated_particles": "The same for all particles of the jets. Errors take particles for independent, which those "
    "of one jet are not.",
    "generated_kinds": "Transverse momentum of the particles of each kind.",
    "domain_accuracy": "Accuracy on held-out jets of the simulation (blue) and on labelled jets of the data, which no "
    "training has seen (red). The shorter the line between them, the less is lost. Errors are the spread over seeds.",
    "domain_gap": "How well a linear classifier tells simulation from data by z: before finetuning (open) and after it "
    "(blue). The tick is the floor.",
}


def caption(name: str, **values: object) -> tuple[str, str]:
    """Alternative text and caption of a figure."""
    return _ALT[name], _CAPTION[name].format(**values)
