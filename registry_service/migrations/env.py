"""Run by Alembic. The connection, and the transaction around everything, are the caller's."""

from alembic import context

from registry_service.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transaction_per_migration=False,
)
context.run_migrations()
