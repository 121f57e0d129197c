"""Speed and memory, measured in a live kernel; figures are printed in ms and as ratios within one run."""
