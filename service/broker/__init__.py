"""The Kafka clients. Nothing outside this room knows kafka-python."""
