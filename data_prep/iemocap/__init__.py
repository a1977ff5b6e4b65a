"""IEMOCAP: parser of the raw release, command, tfds builder."""
