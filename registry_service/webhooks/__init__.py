"""Webhooks: changes told to other people's servers as signed POSTs, in order, each until it is accepted."""
