"""Eigenvalues and singular values of Jacobians and of their products, and how far from normal they are."""

from jaxrnn.spectra.normality import henrici, kreiss, pseudospectrum, transient_growth
from jaxrnn.spectra.products import ProductSingularValues, log_condition, product_log_singular_values
from jaxrnn.spectra.values import eigenvalues, singular_values, spectral_radius, tracks

__all__ = [
    "ProductSingularValues",
    "eigenvalues",
    "henrici",
    "kreiss",
    "log_condition",
    "product_log_singular_values",
    "pseudospectrum",
    "singular_values",
    "spectral_radius",
    "tracks",
    "transient_growth",
]
