"""Frames to tables and figures. Pure functions of stored outcomes and records; nothing here attacks a model."""
