"""The frame of the benchmarks: figures that are ratios, and the page that is made of them."""
