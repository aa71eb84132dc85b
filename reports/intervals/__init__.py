"""From recorded numbers to intervals: quantiles, tasks that hang together, requests in rounds."""
