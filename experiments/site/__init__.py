"""The site: guide, results, pictures and reference as pages of HTML, built by `python -m experiments site`."""
