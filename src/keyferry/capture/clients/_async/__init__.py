"""The asyncio form of the clients, written by hand."""
