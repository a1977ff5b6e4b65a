"""From an archive to batches on a device: corpus, folds, availability patterns, normaliser, streamed reading."""
