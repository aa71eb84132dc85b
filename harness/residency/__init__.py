"""Which of several models is on the device: layouts, the arena's map, policies, traces, a simulator."""
