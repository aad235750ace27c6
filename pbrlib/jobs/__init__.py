"""Jobs: small independent pieces of work that leave files and are done when their files stand."""
