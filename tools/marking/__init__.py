"""Parts of the tools that look for watermarks and measure them."""
