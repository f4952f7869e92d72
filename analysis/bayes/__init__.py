"""Posteriors in closed form and by quadrature, without draws."""
