"""Prepare: preprocessing, the store of prepared cases, patches, augmentation, batches."""
