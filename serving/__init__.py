"""Serving: clients and configuration for exported models."""
