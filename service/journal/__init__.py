"""What was accepted is kept here until Kafka and the cases have it: the durable store and its upkeep."""
