"""From official archives and folders to data sets on disk."""
