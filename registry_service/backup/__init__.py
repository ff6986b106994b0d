"""Backups: everything the registry knows and holds, as a folder that any registry can be made from again."""
