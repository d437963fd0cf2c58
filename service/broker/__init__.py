"""The Kafka clients. But for `consumer/`, a package by itself, nothing else knows kafka-python."""
