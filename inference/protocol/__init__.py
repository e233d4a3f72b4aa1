"""What crosses processes: requests, events, job folders, errors. Standard library only."""
