"""Datasets, metrics and protocols: how good an inspector is, honestly measured."""
