"""Adapters beside the graph: branches that read their matrices, and files that have them."""
