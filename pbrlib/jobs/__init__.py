"""Jobs: small independent pieces of work that write files; a job with unchanged files is not repeated."""
