"""Generated jets beside real ones: distributions, distances, a two-sample test."""
