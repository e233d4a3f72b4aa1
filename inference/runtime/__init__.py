"""What runs jobs: the warm worker, the command line, devices, weights and the doctor."""
