"""Kubernetes: manifests for Kustomize, and what of them follows from the catalogue, the options and the rules."""
