"""LoRA adapters in peft's format: valid files, where they come from, and merging."""
