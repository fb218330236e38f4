"""Real Redis servers, alone and in topologies, and the network between them and a test."""
