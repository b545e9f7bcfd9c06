"""Topology files: model, loading, checking, and resolving into a lab spec. Everything here is pure."""
