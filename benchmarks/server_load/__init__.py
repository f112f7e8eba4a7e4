"""Clients and loads for the serving benchmark."""
