"""protobuf ↔ domain; nothing else knows both."""
