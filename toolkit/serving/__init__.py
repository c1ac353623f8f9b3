"""Predictors: trained models, loaded once."""
