"""Devices with an arena: the CPU, its link declared or not, and CUDA."""
