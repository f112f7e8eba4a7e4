"""Graph passes: each replaces one pattern of the exported graph with a faster equivalent."""
