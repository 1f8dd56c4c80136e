"""Models for other programs and other people: exported graphs, cards, uploads."""
