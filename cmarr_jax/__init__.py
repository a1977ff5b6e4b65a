"""CM-ARR in JAX: emotion recognition from several modalities when some of them are missing.

After the published description in arXiv 2407.09029. Importing the package, or `cmarr_jax.losses`, loads neither distrax
nor tensorflow-datasets nor Orbax.
"""

__version__ = "0.1.0"
