"""What TensorBoard shows of a run besides the numbers of the log."""
