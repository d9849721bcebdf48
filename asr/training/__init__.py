"""Training: manifests -> batches -> CTC loss -> checkpoints. Never imported by inference."""
